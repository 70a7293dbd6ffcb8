// SPDX-License-Identifier: Apache-2.0
#include "gateway/net/stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "tls/client_verifier.h"

namespace gatepost::net {
namespace {

// What one stream may read in one loop iteration before the others have their turn.
constexpr uint32_t kReadBudgetBytes = 1024 * 1024;

}  // namespace

// The bytes of one uv_write. libuv owns it until the callback, which may come after the Stream
// died.
struct Stream::PendingWrite {
  uv_write_t request;
  std::vector<uint8_t> bytes;
};

Stream::Stream(StreamIo& io, HandlePtr<uv_tcp_t> handle, Observer& observer)
    : io_(io), observer_(&observer), handle_(std::move(handle)) {
  handle_->data = this;
  uv_tcp_nodelay(handle_.get(), 1);
}

// HandlePtr closes; pending writes end in their callback with no owner.
Stream::~Stream() {
  LeaveQueues();
}

void Stream::Abandon() {
  PauseReading();
  LeaveQueues();
  handle_->data = nullptr;
  failed_ = ended_ = true;
  queued_ = {};
}

void Stream::StartTls(std::shared_ptr<const tls::ServerContext> context) {
  channel_ = std::make_unique<tls::Channel>(io_.transport, std::move(context));
  awaiting_hello_ = true;
}

void Stream::StartTls(std::shared_ptr<tls::Peer> peer) {
  channel_ = std::make_unique<tls::Channel>(io_.transport, std::move(peer));
  channel_->Start();
  SendTransport();
}

size_t Stream::unsent() const {
  const size_t outstanding =
      outstanding_ == nullptr
          ? 0
          : uv_stream_get_write_queue_size(reinterpret_cast<const uv_stream_t*>(handle_.get()));
  return outstanding + queued_.size();
}

// ---- reading
// -------------------------------------------------------------------------------------

void Stream::ResumeReading() {
  if (reading_ || ended_ || failed_ || with_signer_ || hello_ticket_ != HelloQueue::kNone) return;
  const int status = uv_read_start(
      reinterpret_cast<uv_stream_t*>(handle_.get()),
      [](uv_handle_t* handle, size_t, uv_buf_t* buffer) {
        *buffer = uv_buf_init(nullptr, 0);
        if (handle->data == nullptr) return;
        auto& self = *static_cast<Stream*>(handle->data);
        if (self.budget_iteration_ != self.io_.iteration) {
          self.budget_iteration_ = self.io_.iteration;
          self.budget_used_ = 0;
        }
        // An empty buffer ends this stream's turn (UV_ENOBUFS); epoll reports it again.
        if (self.budget_used_ >= kReadBudgetBytes) return;
        // Answering a ClientHello costs as much as many packets: one an iteration, so that a storm
        // of handshakes does not hold up the sessions that are established.
        if (self.awaiting_hello_) {
          if (self.io_.signer && self.io_.signer->full()) return;
          if (!self.io_.hellos.MayAnswer(self)) return;
        }
        const size_t size = self.peeking_ ? self.Peek() : self.io_.received.size();
        *buffer = uv_buf_init(reinterpret_cast<char*>(self.io_.received.data()),
                              static_cast<unsigned>(size));
      },
      [](uv_stream_t* handle, ssize_t count, const uv_buf_t*) {
        if (handle->data != nullptr) static_cast<Stream*>(handle->data)->OnRead(count);
      });
  reading_ = status == 0;
}

void Stream::PauseReading() {
  if (!reading_) return;
  uv_read_stop(reinterpret_cast<uv_stream_t*>(handle_.get()));
  reading_ = false;
}

size_t Stream::Peek() {
  constexpr size_t kMaxPeekBytes = 4096;
  uv_os_fd_t descriptor;
  if (uv_fileno(reinterpret_cast<uv_handle_t*>(handle_.get()), &descriptor) != 0) return 1;
  const ssize_t count =
      recv(descriptor, io_.received.data(), kMaxPeekBytes, MSG_PEEK | MSG_DONTWAIT);
  if (count <= 0) return 1;  // the read says why
  const auto waiting = static_cast<size_t>(count);
  return std::clamp<size_t>(observer_->OnPeek(*this, {io_.received.data(), waiting}), 1, waiting);
}

void Stream::OnRead(ssize_t count) {
  if (count == UV_ENOBUFS && awaiting_hello_) {
    PauseReading();
    if (io_.signer && io_.signer->full()) {
      with_signer_ = true;
      return io_.signer->WaitForRoom(*this);
    }
    hello_ticket_ = io_.hellos.Join(*this);
    return;
  }
  if (count == 0 || count == UV_ENOBUFS || failed_) return;
  if (count == UV_EOF) {
    PauseReading();
    if (ended_) return;
    if (channel_) {
      // Without close_notify the data may be truncated; mail protocols have their own ends, and
      // many clients just close, so an established connection treats it as an end all the same.
      const bool established = channel_->established();
      channel_->PeerClosed();
      if (!established) return Fail("closed during the TLS handshake");
    }
    ended_ = true;
    return observer_->OnStreamEvent(*this, Event::kEnd);
  }
  if (count < 0) return Fail(uv_strerror(static_cast<int>(count)));
  const Bytes received(io_.received.data(), static_cast<size_t>(count));
  awaiting_hello_ = false;
  received_bytes_ += received.size();
  budget_used_ += static_cast<uint32_t>(received.size());
  if (channel_) {
    const bool was_established = channel_->established();
    return OnChannel(was_established, channel_->Receive(received, io_.plaintext));
  }
  if (!ended_) observer_->OnPlaintext(*this, received);
}

void Stream::OnChannel(bool was_established, size_t plaintext_size) {
  SendTransport();  // handshake messages, alerts, key updates
  if (!was_established && channel_->established()) {
    observer_->OnStreamEvent(*this, Event::kTlsEstablished);
    if (failed_) return;
  }
  if (plaintext_size > 0) {
    observer_->OnPlaintext(*this, Bytes(io_.plaintext.data(), plaintext_size));
    if (failed_) return;
  }
  if (channel_->failure() != tls::Failure::kNone) return Fail(channel_->error());
  if (channel_->peer_closed() && !ended_) {
    ended_ = true;
    PauseReading();
    return observer_->OnStreamEvent(*this, Event::kEnd);
  }
  if (channel_->established()) return;
  if (auto operation = channel_->TakeKeyOperation()) {
    PauseReading();
    with_signer_ = true;
    io_.signer->Sign(std::move(operation), *this);
  }
}

void Stream::OnSigned(std::unique_ptr<tls::KeyOperation> operation) {
  with_signer_ = false;
  ResumeReading();
  OnChannel(false, channel_->Complete(std::move(operation), io_.plaintext));
}

void Stream::OnRoom() {
  with_signer_ = false;
  ResumeReading();
}

void Stream::OnTurn() {
  hello_ticket_ = HelloQueue::kNone;
  ResumeReading();
}

void Stream::LeaveQueues() {
  if (std::exchange(with_signer_, false)) io_.signer->Forget(*this);
  io_.hellos.Leave(std::exchange(hello_ticket_, HelloQueue::kNone), *this);
}

Address Stream::LocalAddress() const {
  sockaddr_storage storage{};
  int length = sizeof(storage);
  (void)uv_tcp_getsockname(handle_.get(), reinterpret_cast<sockaddr*>(&storage), &length);
  return Address(reinterpret_cast<const sockaddr*>(&storage));
}

std::unique_ptr<tls::ClientCertificate> Stream::TakeClientCertificate() {
  return channel_->TakeClientCertificate();
}

void Stream::Fail(std::string error) {
  if (failed_) return;
  PauseReading();
  LeaveQueues();
  failed_ = ended_ = true;
  error_ = std::move(error);
  observer_->OnStreamEvent(*this, Event::kFailed);
}

// ---- writing
// -------------------------------------------------------------------------------------

void Stream::Write(Bytes plaintext) {
  if (failed_ || shutdown_wanted_ || plaintext.empty()) return;
  if (!channel_) return Send(plaintext);
  // A failure inside the TLS library shows on the next read or write of the socket as well.
  if (!channel_->Send(plaintext)) shutdown_wanted_ = true;
  SendTransport();
}

void Stream::SendTransport() {
  auto& outgoing = io_.transport.outgoing;
  if (outgoing.empty()) return;
  Send(Bytes(outgoing.data(), outgoing.size()));
  outgoing.clear();
}

void Stream::Send(Bytes wire) {
  if (wire.empty()) return;
  sent_bytes_ += wire.size();
  if (outstanding_ != nullptr) return Enqueue(wire);
  uv_buf_t buffer =
      uv_buf_init(reinterpret_cast<char*>(const_cast<uint8_t*>(wire.data())),  // libuv reads only
                  static_cast<unsigned>(wire.size()));
  const int written = uv_try_write(reinterpret_cast<uv_stream_t*>(handle_.get()), &buffer, 1);
  const size_t taken = written > 0 ? static_cast<size_t>(written) : 0;
  if (taken == wire.size()) return;
  // An error, too, goes through uv_write: its callback reports it outside the caller's stack.
  Enqueue(wire.subspan(taken));
  StartQueued();
}

void Stream::Enqueue(Bytes wire) {
  // Exactly at first, since most of the time that is all; then twice as much each time.
  const size_t needed = queued_.size() + wire.size();
  if (queued_.capacity() < needed) queued_.reserve(std::max(needed, 2 * queued_.size()));
  queued_.insert(queued_.end(), wire.begin(), wire.end());
}

void Stream::StartQueued() {
  auto pending = std::make_unique<PendingWrite>();
  pending->bytes.swap(queued_);
  pending->request.data = pending.get();
  uv_buf_t buffer = uv_buf_init(reinterpret_cast<char*>(pending->bytes.data()),
                                static_cast<unsigned>(pending->bytes.size()));
  outstanding_ = pending.get();
  const int status = uv_write(
      &pending->request, reinterpret_cast<uv_stream_t*>(handle_.get()), &buffer, 1,
      [](uv_write_t* request, int write_status) {
        const std::unique_ptr<PendingWrite> done(static_cast<PendingWrite*>(request->data));
        if (request->handle->data == nullptr) return;
        static_cast<Stream*>(request->handle->data)->OnWritten(write_status);
      });
  if (status == 0) {
    (void)pending.release();
  } else {  // only possible on a handle without a socket
    outstanding_ = nullptr;
  }
}

void Stream::OnWritten(int status) {
  outstanding_ = nullptr;
  if (status < 0) {
    queued_ = {};
    return Fail(uv_strerror(status));
  }
  if (!queued_.empty()) StartQueued();
  if (unsent() > 0) return;
  if (shutdown_wanted_) FinishShutdown();
  observer_->OnStreamEvent(*this, Event::kDrained);
}

void Stream::ShutdownWrite() {
  if (shutdown_wanted_ || failed_) return;
  if (channel_ && channel_->established()) {
    channel_->Shutdown();
    SendTransport();
  }
  shutdown_wanted_ = true;
  if (unsent() == 0) FinishShutdown();
}

void Stream::FinishShutdown() {
  if (std::exchange(shutdown_done_, true)) return;
  uv_os_fd_t descriptor;
  if (uv_fileno(reinterpret_cast<uv_handle_t*>(handle_.get()), &descriptor) == 0) {
    shutdown(descriptor, SHUT_WR);
  }
}

}  // namespace gatepost::net
