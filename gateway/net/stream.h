// One TCP connection, with TLS or without: the session's only view of a socket.
//
// Reads go into the worker's scratch buffers and reach the observer as plaintext; writes are tried
// at once, and only what the kernel refuses is kept, in memory that is given back when it has gone.
// An idle Stream owns no buffer. A Stream never calls its observer from inside a call made on it.
// Owned by a session; one loop thread. RFC 8446 for close_notify and half-close.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <uv.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/net/address.h"
#include "gateway/net/hello_queue.h"
#include "gateway/net/signer.h"
#include "gateway/net/uv_handle.h"
#include "tls/channel.h"
#include "tls/client_context.h"
#include "tls/context.h"

namespace gatepost::net {

using Bytes = std::span<const uint8_t>;

inline Bytes AsBytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
inline std::string_view AsText(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// StreamIo is what all streams of one worker share: its loop and the scratch memory for the one
// call that is under way.
struct StreamIo {
  static constexpr size_t kReceiveBytes = size_t{128} * 1024;

  explicit StreamIo(uv_loop_t* uv_loop)
      : loop(uv_loop),
        received(kReceiveBytes),
        plaintext(kReceiveBytes + tls::Channel::kPlaintextMargin) {}

  uv_loop_t* loop;
  uint32_t iteration = 0;  // of the loop; counts for fairness
  HelloQueue hellos;
  std::vector<uint8_t> received;
  std::vector<uint8_t> plaintext;
  tls::Transport transport;
  std::unique_ptr<Signer> signer;  // null: slow private keys are used on the loop

  // NextIteration begins an iteration of the loop: budgets are full, and somebody's turn has come.
  void NextIteration() {
    ++iteration;
    hellos.NextIteration();
  }

  // UseSigner has signatures with slow keys made elsewhere from now on.
  void UseSigner() {
    signer = std::make_unique<Signer>(loop);
    transport.defer_slow_keys = true;
  }
};

class Stream final : private Signer::Client, private HelloQueue::Client {
 public:
  enum class Event : uint8_t {
    kTlsEstablished,  // the handshake is done
    kEnd,             // the peer sends nothing more (FIN or close_notify); writing may go on
    kFailed,          // reset, TLS failure: nothing more in either direction; see error()
    kDrained          // unsent() fell to 0 after the kernel had refused something
  };

  class Observer {
   public:
    // The view is valid during the call only. The observer may write to and close any stream.
    virtual void OnPlaintext(Stream& stream, Bytes plaintext) = 0;
    virtual void OnStreamEvent(Stream& stream, Event event) = 0;
    // OnPeek says how many bytes of `waiting`, the beginning of what lies in the socket, are to be
    // read; at least one is. While PeekFirst is on.
    virtual size_t OnPeek(Stream& /*stream*/, Bytes waiting) { return waiting.size(); }

   protected:
    ~Observer() = default;
  };

  // Takes a connected handle. Reading starts with ResumeReading.
  Stream(StreamIo& io, HandlePtr<uv_tcp_t> handle, Observer& observer);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // SetObserver hands the stream over to who sees its events from now on.
  void SetObserver(Observer& observer) { observer_ = &observer; }

  // Abandon ends everything: no event comes any more, and the connection closes when the Stream is
  // destroyed. For an owner that can't destroy it yet, since the Stream is calling.
  void Abandon();

  // PeekFirst has the observer say how much is read at a time, so that what stands behind that
  // stays in the socket: for what comes before TLS.
  void PeekFirst(bool on) { peeking_ = on; }

  // StartTls begins TLS: as a server, or as a client of `peer`. Everything that was written before
  // goes out in cleartext, everything after is encrypted.
  void StartTls(std::shared_ptr<const tls::ServerContext> context);
  void StartTls(std::shared_ptr<tls::Peer> peer);

  // Write sends `plaintext`, encrypted where TLS is active. It never fails visibly: a broken
  // connection is reported by an event. What can't be sent at once is copied.
  void Write(Bytes plaintext);
  void Write(std::string_view plaintext) { Write(AsBytes(plaintext)); }

  // ShutdownWrite ends our direction (close_notify, FIN) once everything unsent has gone.
  void ShutdownWrite();

  void PauseReading();
  void ResumeReading();

  // Bytes that were written but not yet taken by the kernel.
  [[nodiscard]] size_t unsent() const;
  [[nodiscard]] bool ended() const { return ended_; }
  [[nodiscard]] bool failed() const { return failed_; }
  [[nodiscard]] bool reading() const { return reading_; }
  // Our end of the connection; all zeros where it is gone.
  [[nodiscard]] Address LocalAddress() const;
  // The TLS state; null without TLS.
  [[nodiscard]] const tls::Channel* channel() const { return channel_.get(); }
  // TakeClientCertificate returns what the client presented in its handshake, once; null: nothing.
  [[nodiscard]] std::unique_ptr<tls::ClientCertificate> TakeClientCertificate();
  // Why the stream failed: one line, safe to log.
  [[nodiscard]] const std::string& error() const { return error_; }
  [[nodiscard]] uint64_t received_bytes() const { return received_bytes_; }
  [[nodiscard]] uint64_t sent_bytes() const { return sent_bytes_; }

 private:
  struct PendingWrite;

  void OnSigned(std::unique_ptr<tls::KeyOperation> operation) override;
  void OnRoom() override;
  void OnTurn() override;

  [[nodiscard]] size_t Peek();
  void OnRead(ssize_t count);
  void OnChannel(bool was_established, size_t plaintext_size);
  void LeaveQueues();
  void OnWritten(int status);
  void SendTransport();
  void Send(Bytes wire);
  void Enqueue(Bytes wire);
  void StartQueued();
  void FinishShutdown();
  void Fail(std::string error);

  StreamIo& io_;
  Observer* observer_;
  HandlePtr<uv_tcp_t> handle_;
  std::unique_ptr<tls::Channel> channel_;
  std::vector<uint8_t> queued_;          // behind the outstanding write
  PendingWrite* outstanding_ = nullptr;  // owned by libuv until its callback
  uint64_t received_bytes_ = 0;
  uint64_t sent_bytes_ = 0;
  std::string error_;
  HelloQueue::Ticket hello_ticket_ = HelloQueue::kNone;  // while in the queue: the peer is not read
  uint32_t budget_iteration_ = 0;
  uint32_t budget_used_ = 0;
  bool reading_ = false;
  bool peeking_ = false;
  bool awaiting_hello_ = false;  // the first bytes of a TLS client
  bool with_signer_ = false;     // which has something of ours, or no room: the peer is not read
  bool ended_ = false;
  bool failed_ = false;
  bool shutdown_wanted_ = false;
  bool shutdown_done_ = false;
};

}  // namespace gatepost::net
