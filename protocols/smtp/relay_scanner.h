// Watches an SMTP session after login: commands, replies, mail data, for its whole life.
//
// The client and the backend must never disagree on where a command or a message ends, or a client
// could smuggle a second one past us. So what this scanner can't follow it does not forward: it
// refuses unknown commands, lines with a bare CR or LF and STARTTLS, AUTH, XCLIENT and XFORWARD
// itself, each answered in its place among the backend's replies. Mail data ends with CRLF.CRLF or
// by BDAT's size and nothing else; a bare CR or LF in it is refused or replaced. It copies nothing
// of what passes except the backend's EHLO replies, which it filters.
// RFC 5321, RFC 3030 (BDAT), RFC 2920 (pipelining). Owned by the relay; one thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/engine.h"
#include "protocols/relay_scanner.h"
#include "protocols/smtp/command.h"
#include "protocols/smtp/mail_data_scanner.h"
#include "protocols/smtp/reply.h"

namespace gatepost::smtp {

// kClose carries kLoggedOut (QUIT answered, or the backend said 421) or kProtocolViolation (a reply
// to nothing, a 354 to something else than DATA, nonsense, BDAT without a size).
class RelayScanner final : public protocols::RelayScanner {
 public:
  // `capabilities` are the backend's before the first EHLO reply passes here; null: none. BDAT is
  // forwarded only to a backend that offers CHUNKING: any other reads its payload as commands.
  RelayScanner(protocols::BareNewline bare_newline, const protocols::DialogueLimits& limits,
               std::string hostname, const protocols::Capabilities* capabilities);

  // TakeInbound makes it watch a client that has not logged in, from its first MAIL on: it may send
  // mail to `local_domains`, in lower case, and to nobody else, in this transaction and in all that
  // follow. The backend is first told by an EHLO of ours what the client is called, `client_name`.
  // `judged`: somebody is asked about each recipient that is none of others.
  void TakeInbound(std::shared_ptr<const std::vector<std::string>> local_domains,
                   std::string_view client_name, bool judged);

  Step FromClient(std::string_view input, protocols::Buffer& to_client,
                  protocols::Buffer& to_backend) override;
  Step FromBackend(std::string_view input, protocols::Buffer& to_client) override;
  void SetBackend(const protocols::Capabilities& capabilities) override;
  void HideSubmitter() override { hides_submitter_ = true; }
  void BackendReset() override;
  [[nodiscard]] Recipient recipient() const override;
  void Judge(std::string_view refusal) override;
  [[nodiscard]] bool AtBoundary() const override;
  [[nodiscard]] bool AwaitsVerdict() const override;
  [[nodiscard]] bool CanSpeak() const override;
  void Say(protocols::Notice notice, protocols::Buffer& to_client) override;

 private:
  // What the client's next byte belongs to.
  enum class Mode : uint8_t {
    kCommand,
    kSkipLine,       // a line that was too long
    kDataAsked,      // DATA is unanswered: data or a command, the reply decides
    kQuitAsked,      // QUIT is unanswered
    kData,           // mail data that passes
    kRefusedData,    // mail data with a bare newline: swallowed up to its end
    kChunk,          // payload of a BDAT that passes
    kRefusedBytes,   // swallowed up to the last byte, which waits for the backend's reset
    kUnwantedChunk,  // payload of a BDAT that was not forwarded
    kReset,          // kResetBackend was returned
    kAfterReset      // that last byte
  };

  // Whether the backend was told of the chunk under way, and refused it before its end.
  enum class Asked : uint8_t { kNo, kYes, kAnswered };

  // What the backend was asked and has not answered.
  enum class Question : uint8_t {
    kHello,     // EHLO
    kOwnHello,  // our EHLO in the client's name
    kReset,     // RSET, HELO
    kMail,
    kBinaryMail,  // MAIL … BODY=BINARYMIME
    kRcpt,
    kData,
    kEndOfData,
    kChunk,
    kLastChunk,
    kQuit,
    kOther
  };

  // A queue of questions in fixed memory; when it is full the client waits.
  class Questions {
   public:
    [[nodiscard]] bool empty() const { return size_ == 0; }
    [[nodiscard]] bool full() const { return size_ == kRoom; }
    [[nodiscard]] size_t size() const { return size_; }
    [[nodiscard]] Question front() const { return ring_[first_]; }
    [[nodiscard]] Question back() const { return ring_[(first_ + size_ - 1) % kRoom]; }
    void Push(Question question);
    void PopFront();
    void PopBack() { --size_; }
    void Clear() { size_ = 0; }
    // Unsettled says whether a reply is due that decides which transaction a BDAT belongs to.
    [[nodiscard]] bool Unsettled() const;
    // Has says whether one of these is unanswered.
    [[nodiscard]] bool Has(Question question) const;

   private:
    static constexpr size_t kRoom = 128;
    std::array<Question, kRoom> ring_{};
    uint8_t first_ = 0;
    uint8_t size_ = 0;
  };

  // Client to backend.
  Step DoCommand(std::string_view input, protocols::Buffer& to_client,
                 protocols::Buffer& to_backend);
  Step DoSkipLine(std::string_view input, protocols::Buffer& to_client);
  Step DoData(std::string_view input, protocols::Buffer& to_backend);
  Step DoRefusedData(std::string_view input);
  Step DoChunk(std::string_view input, protocols::Buffer& to_client);
  Step DoRefusedBytes(std::string_view input, protocols::Buffer& to_client);
  Step DoUnwantedChunk(std::string_view input, protocols::Buffer& to_client);
  Step OnBdat(std::string_view argument, size_t line_bytes, protocols::Buffer& to_client,
              protocols::Buffer& to_backend);
  Step ForwardChunk(const Chunk& chunk, size_t line_bytes, protocols::Buffer& to_backend);
  Step PassChunk(size_t count);
  Step RefuseCommand(std::string_view reply, size_t line_bytes, protocols::Buffer& to_client);
  Step RefuseBadCommand(std::string_view reply, size_t line_bytes, protocols::Buffer& to_client);
  [[nodiscard]] size_t PassPlainCommands(std::string_view input);
  [[nodiscard]] bool AskPlain(const Command& command);

  // Whether MAIL may have an AUTH parameter: RFC 4954 §5.
  [[nodiscard]] bool takes_submitter() const { return auth_ && !hides_submitter_; }
  Step PassWithoutSubmitter(std::string_view argument, size_t line_bytes,
                            protocols::Buffer& to_client, protocols::Buffer& to_backend);

  // Client to backend, where nobody has logged in: inbound_relay.cc.
  Step DoInboundCommand(const Command& command, size_t line_bytes, protocols::Buffer& to_client,
                        protocols::Buffer& to_backend);
  Step OnInboundRcpt(std::string_view argument, size_t line_bytes, protocols::Buffer& to_client,
                     protocols::Buffer& to_backend);
  Step AskAbout(std::string rcpt, size_t line_bytes, protocols::Buffer& to_client);
  Step RefuseRecipient(std::string_view reply, size_t line_bytes, protocols::Buffer& to_client);
  bool SayHello(protocols::Buffer& to_backend);

  // Backend to client.
  void OnReply(unsigned code);
  void Count(protocols::RelayCounts::Asked asked, unsigned code);
  [[nodiscard]] bool Believable(unsigned code) const;
  Step CollectHello(const ReplyLine& reply, size_t line_bytes, protocols::Buffer& to_client);
  Step BackendError(protocols::Buffer& to_client);
  void EndTransaction();
  void Learn(std::string_view keyword_line);
  [[nodiscard]] bool chunk_under_way() const;

  const protocols::BareNewline bare_newline_;
  const size_t max_line_bytes_;
  const unsigned max_bad_commands_;
  const std::string hostname_;

  Mode mode_ = Mode::kCommand;
  unsigned bad_commands_ = 0;
  bool chunking_ = false;     // the backend offers CHUNKING, and we can serve it
  bool binary_mime_ = false;  // the backend offers BINARYMIME
  bool auth_ = false;         // the backend has offered AUTH: some do not repeat it after a login
  bool hides_submitter_ = false;

  // The mail transaction, as far as the backend accepted it.
  bool transaction_open_ = false;
  bool binary_ = false;          // BODY=BINARYMIME
  bool chunks_refused_ = false;  // a BDAT of this transaction was refused here: all are
  uint64_t message_bytes_ = 0;   // passed to the backend since the transaction began

  MailDataScanner data_{MailDataScanner::Framing::kDotStuffed};
  MailDataScanner chunk_{MailDataScanner::Framing::kCounted};
  uint64_t chunk_left_ = 0;  // bytes of the current BDAT that are still to come
  bool chunk_last_ = false;  // it is BDAT … LAST
  Asked chunk_asked_ = Asked::kNo;
  bool chunk_after_cr_ = false;  // the chunk before ended in CR
  std::string_view refusal_;     // kUnwantedChunk: the reply at its end; a literal

  // Where nobody has logged in.
  struct Inbound {
    std::shared_ptr<const std::vector<std::string>> local_domains;
    std::string hello_name;  // empty: the backend is not told
    bool hello_said = false;
    uint32_t recipients_left;  // that may still be refused
    bool judged = false;       // by somebody who is asked
    // Where they are: what the backend was told, and the answer, once it is there.
    std::string client_name;
    std::string mail;
    std::string rcpt;  // of the question that is open; empty: none
    uint32_t asked = 0;
    std::optional<std::string> refusal;
  };
  std::unique_ptr<Inbound> inbound_;

  Questions questions_;
  unsigned reply_code_ = 0;  // of a reply of several lines that is under way, else 0
  std::string hello_reply_;  // an EHLO reply until it is complete, lines with "250-"
  size_t hello_last_ = 0;    // where its last line begins
};

}  // namespace gatepost::smtp
