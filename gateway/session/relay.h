// The relay: the hot path of a logged-in session, bytes both ways.
//
// Opaque for IMAP and POP3; for SMTP a RelayScanner decides over each piece. What is read from one
// side is written to the other at once; when the other side can't take all of it, reading stops.
// Nothing is held while idle. Owned by its session; one loop thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "gateway/net/stream.h"
#include "gateway/session/close_reason.h"
#include "protocols/buffer.h"
#include "protocols/relay_scanner.h"

namespace gatepost::session {

class Relay {
 public:
  enum class State : uint8_t {
    kRunning,
    kNeedsBackend,  // the scanner gave the backend connection up: log in anew, then AttachBackend
    kEnded          // reason() says why; what was to be said has been written
  };

  // Borrows the client's stream for its life; `scanner` may be null.
  Relay(net::Stream& client, std::unique_ptr<protocols::RelayScanner> scanner)
      : client_(client), scanner_(std::move(scanner)) {}

  // AttachBackend begins, or goes on with a fresh backend connection after kNeedsBackend. Borrows.
  void AttachBackend(net::Stream& backend, const protocols::Capabilities& capabilities);

  // `plaintext` is valid during the call. Ciphertext never comes here: see net::Stream.
  void FromClient(net::Bytes plaintext);
  void FromBackend(net::Bytes plaintext);

  void OnClientEvent(net::Stream::Event event);
  void OnBackendEvent(net::Stream::Event event);

  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] CloseReason reason() const { return reason_; }
  // Whether the scanner waits for RelayScanner::Judge; GoOn follows that.
  [[nodiscard]] bool asks() const { return asks_ && state_ == State::kRunning; }
  void GoOn();
  [[nodiscard]] protocols::RelayScanner* scanner() const { return scanner_.get(); }

  // HalfClosed tells that the client has ended its direction and the backend still speaks.
  [[nodiscard]] bool half_closed() const {
    return client_ended_ && !waiting_ && !blocked_ && state_ == State::kRunning;
  }
  // A backend behind TLS is told only when it has been silent for a while (TellBackend):
  // Dovecot 2.3 drops its answers when it sees the client's close_notify.
  [[nodiscard]] bool backend_told() const { return backend_told_; }
  void TellBackend();

  // LineBoundary tells whether the last bytes that went to the client ended a line and nothing is
  // unsent: a response of ours would be read as one. For the opaque relay.
  [[nodiscard]] bool LineBoundary() const;

 private:
  void ScanClient();
  size_t ScanClientPiece(std::string_view input);
  size_t ScanBackendPiece(std::string_view input);
  void Flow();
  void Resume();
  void EndClientDirection();
  void End(CloseReason reason);

  net::Stream& client_;
  net::Stream* backend_ = nullptr;
  std::unique_ptr<protocols::RelayScanner> scanner_;
  protocols::Buffer held_client_;  // not consumed by the scanner yet
  protocols::Buffer held_backend_;
  State state_ = State::kRunning;
  CloseReason reason_ = CloseReason::kNone;
  char last_two_[2] = {'\r', '\n'};
  bool waiting_ = false;  // for the backend's replies: the client is not read
  bool asks_ = false;     // likewise for a judgement
  bool blocked_ = false;  // scanning stopped since a side does not take what was said to it
  bool client_ended_ = false;
  bool backend_told_ = false;
};

}  // namespace gatepost::session
