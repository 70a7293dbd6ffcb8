// SPDX-License-Identifier: Apache-2.0
#include "gateway/session/relay.h"

#include <utility>

namespace gatepost::session {

using net::Bytes;
using net::Stream;
using protocols::RelayScanner;

namespace {

// Of replies of our own, and of data that the scanner changes, that a side has not taken yet.
constexpr size_t kMaxUnsentBytes = size_t{64} * 1024;

}  // namespace

void Relay::AttachBackend(Stream& backend, const protocols::Capabilities& capabilities) {
  backend_ = &backend;
  if (scanner_) scanner_->SetBackend(capabilities);
  if (state_ == State::kNeedsBackend) {
    state_ = State::kRunning;
    scanner_->BackendReset();
    ScanClient();
  }
  if (client_ended_ && state_ == State::kRunning) EndClientDirection();
  Flow();
}

// ---- client to backend
// ---------------------------------------------------------------------------

void Relay::FromClient(Bytes plaintext) {
  if (state_ == State::kEnded) return;
  if (!scanner_) {
    backend_->Write(plaintext);
    if (backend_->unsent() > 0) client_.PauseReading();
    return;
  }
  const std::string_view text = net::AsText(plaintext);
  if (held_client_.empty() && !waiting_ && !blocked_ && state_ == State::kRunning) {
    held_client_.Append(text.substr(ScanClientPiece(text)));
  } else {
    held_client_.Append(text);
    if (!waiting_ && !blocked_) ScanClient();
  }
  Flow();
}

// ScanClient goes on with what is held.
void Relay::ScanClient() {
  if (state_ != State::kRunning || held_client_.empty()) return;
  held_client_.Consume(ScanClientPiece(held_client_.view()));
  if (held_client_.empty()) held_client_.Clear();
}

// ScanClientPiece shows `input` to the scanner until it wants more, waits or is through, and
// returns how much was consumed. Adjacent pieces that pass are written together.
size_t Relay::ScanClientPiece(std::string_view input) {
  size_t consumed = 0;
  size_t run = 0;  // [run, consumed) passes and was not written yet
  const auto write_run = [&] {
    backend_->Write(input.substr(run, consumed - run));
    run = consumed;
  };
  protocols::Buffer to_client;
  protocols::Buffer to_backend;
  waiting_ = blocked_ = asks_ = false;
  while (consumed < input.size()) {
    // A client that asks and does not listen, or a backend that takes nothing, must not make us
    // hold answers and line ends without bound.
    if (client_.unsent() > kMaxUnsentBytes || backend_->unsent() > kMaxUnsentBytes) {
      blocked_ = true;
      break;
    }
    const RelayScanner::Step step =
        scanner_->FromClient(input.substr(consumed), to_client, to_backend);
    if (!to_backend.empty()) {
      write_run();
      backend_->Write(to_backend.view());
      to_backend.Clear();
    }
    if (!to_client.empty()) {
      client_.Write(to_client.view());
      to_client.Clear();
    }
    switch (step.what) {
      case RelayScanner::Do::kForward:
        consumed += step.bytes;
        continue;
      case RelayScanner::Do::kSwallow:
        write_run();
        run = consumed += step.bytes;
        continue;
      case RelayScanner::Do::kNeedInput:
        break;
      case RelayScanner::Do::kWaitForBackend:
        waiting_ = true;
        break;
      case RelayScanner::Do::kAsk:
        waiting_ = asks_ = true;
        break;
      case RelayScanner::Do::kResetBackend:
        state_ = State::kNeedsBackend;
        break;
      case RelayScanner::Do::kClose:
        write_run();
        End(FromQuit(step.reason));
        return consumed;
    }
    break;
  }
  write_run();
  return consumed;
}

void Relay::GoOn() {
  ScanClient();
  if (client_ended_ && state_ == State::kRunning) EndClientDirection();
  Flow();
}

// ---- backend to client
// ---------------------------------------------------------------------------

void Relay::FromBackend(Bytes plaintext) {
  if (state_ == State::kEnded) return;
  if (!scanner_) {
    client_.Write(plaintext);
    if (plaintext.size() >= 2) {
      last_two_[0] = static_cast<char>(plaintext[plaintext.size() - 2]);
    } else {
      last_two_[0] = last_two_[1];
    }
    last_two_[1] = static_cast<char>(plaintext.back());
    if (client_.unsent() > 0) backend_->PauseReading();
    return;
  }
  const std::string_view text = net::AsText(plaintext);
  if (held_backend_.empty()) {
    held_backend_.Append(text.substr(ScanBackendPiece(text)));
  } else {
    held_backend_.Append(text);
    held_backend_.Consume(ScanBackendPiece(held_backend_.view()));
    if (held_backend_.empty()) held_backend_.Clear();
  }
  // A reply may be what the client's next command waited for.
  if (state_ == State::kRunning && waiting_) ScanClient();
  if (state_ == State::kRunning && client_ended_) EndClientDirection();
  Flow();
}

size_t Relay::ScanBackendPiece(std::string_view input) {
  size_t consumed = 0;
  size_t run = 0;
  const auto write_run = [&] {
    client_.Write(input.substr(run, consumed - run));
    run = consumed;
  };
  protocols::Buffer to_client;
  while (consumed < input.size()) {
    const RelayScanner::Step step = scanner_->FromBackend(input.substr(consumed), to_client);
    if (!to_client.empty()) {
      write_run();
      client_.Write(to_client.view());
      to_client.Clear();
    }
    if (step.what == RelayScanner::Do::kForward) {
      consumed += step.bytes;
      continue;
    }
    write_run();
    if (step.what == RelayScanner::Do::kSwallow) {
      run = consumed += step.bytes;
      continue;
    }
    if (step.what == RelayScanner::Do::kClose) {
      consumed += step.bytes;
      End(FromQuit(step.reason));
    }
    return consumed;  // kNeedInput, or the end
  }
  write_run();
  return consumed;
}

// ---- events
// --------------------------------------------------------------------------------------

// Resume goes on where a full side had stopped the scanner.
void Relay::Resume() {
  if (blocked_ && state_ == State::kRunning) {
    ScanClient();
    if (client_ended_ && state_ == State::kRunning) EndClientDirection();
  }
  Flow();
}

// Flow starts and stops reading: a side is read as long as the other can take what it says.
void Relay::Flow() {
  if (state_ == State::kEnded) return;
  if (waiting_ || blocked_ || state_ == State::kNeedsBackend || backend_ == nullptr ||
      backend_->unsent() > 0) {
    client_.PauseReading();
  } else {
    client_.ResumeReading();
  }
  if (backend_ == nullptr || state_ == State::kNeedsBackend) return;
  if (client_.unsent() > 0) {
    backend_->PauseReading();
  } else {
    backend_->ResumeReading();
  }
}

void Relay::OnClientEvent(Stream::Event event) {
  if (state_ == State::kEnded) return;
  switch (event) {
    case Stream::Event::kTlsEstablished:
      return;
    case Stream::Event::kDrained:
      return Resume();
    case Stream::Event::kEnd:
      client_ended_ = true;
      if (state_ == State::kRunning) EndClientDirection();
      return;
    case Stream::Event::kFailed:
      return End(CloseReason::kClientReset);
  }
}

// EndClientDirection tells the backend that the client says nothing more, once everything it had
// said is on its way; the backend's answers are still relayed (RFC 9293 §3.6 half-close).
void Relay::EndClientDirection() {
  if (waiting_ || blocked_ || backend_ == nullptr) return;
  held_client_.Clear();  // an incomplete command
  if (backend_->channel() == nullptr) TellBackend();
}

void Relay::TellBackend() {
  backend_told_ = true;
  backend_->ShutdownWrite();
}

void Relay::OnBackendEvent(Stream::Event event) {
  if (state_ == State::kEnded) return;
  switch (event) {
    case Stream::Event::kTlsEstablished:
      return;
    case Stream::Event::kDrained:
      return Resume();
    case Stream::Event::kEnd:
      if (!scanner_ || (client_ended_ && scanner_->AtBoundary())) return End(CloseReason::kDone);
      break;
    case Stream::Event::kFailed:
      break;
  }
  if (scanner_ && scanner_->CanSpeak()) {
    protocols::Buffer notice;
    scanner_->Say(protocols::Notice::kBackendLost, notice);
    client_.Write(notice.view());
  }
  End(CloseReason::kBackendLost);
}

void Relay::End(CloseReason reason) {
  state_ = State::kEnded;
  reason_ = reason;
}

bool Relay::LineBoundary() const {
  return last_two_[0] == '\r' && last_two_[1] == '\n' && client_.unsent() == 0;
}

}  // namespace gatepost::session
