// SPDX-License-Identifier: Apache-2.0
#include "protocols/smtp/relay_scanner.h"

#include <algorithm>
#include <utility>

#include "protocols/line_framer.h"
#include "protocols/smtp/inbound.h"

namespace gatepost::smtp {
namespace {

using protocols::BareNewline;
using protocols::Buffer;
using protocols::QuitReason;
using Do = protocols::RelayScanner::Do;
using Step = protocols::RelayScanner::Step;
using Found = MailDataScanner::Found;
using Framing = MailDataScanner::Framing;

// RFC 5321 §4.5.3.1.4 asks for 512, extensions add to it; a backend decides what it takes.
constexpr size_t kLeastMaxLineBytes = 4096;
constexpr size_t kMaxHelloReplyBytes = 16384;

constexpr std::string_view kBareNewlineReply =
    "550 5.6.11 Bare newline in mail data (RFC 5321 section 2.3.8); message refused\r\n";

Step Forward(size_t bytes) {
  return {Do::kForward, bytes};
}
Step Swallow(size_t bytes) {
  return {Do::kSwallow, bytes};
}
Step Close(QuitReason reason) {
  return {Do::kClose, 0, reason};
}
constexpr Step kNeedInput{Do::kNeedInput};
constexpr Step kWaitForBackend{Do::kWaitForBackend};

}  // namespace

RelayScanner::RelayScanner(BareNewline bare_newline, const protocols::DialogueLimits& limits,
                           std::string hostname, const protocols::Capabilities* capabilities)
    : bare_newline_(bare_newline),
      max_line_bytes_(std::max(limits.max_line_bytes, kLeastMaxLineBytes)),
      max_bad_commands_(limits.max_bad_commands),
      hostname_(std::move(hostname)) {
  if (capabilities != nullptr) SetBackend(*capabilities);
}

// ---- client to backend
// ---------------------------------------------------------------------------------

Step RelayScanner::FromClient(std::string_view input, Buffer& to_client, Buffer& to_backend) {
  if (input.empty()) return kNeedInput;
  switch (mode_) {
    case Mode::kCommand:
      return DoCommand(input, to_client, to_backend);
    case Mode::kSkipLine:
      return DoSkipLine(input, to_client);
    case Mode::kDataAsked:
    case Mode::kQuitAsked:
    case Mode::kReset:
      return kWaitForBackend;
    case Mode::kData:
      return DoData(input, to_backend);
    case Mode::kRefusedData:
      return DoRefusedData(input);
    case Mode::kChunk:
      return DoChunk(input, to_client);
    case Mode::kRefusedBytes:
      return DoRefusedBytes(input, to_client);
    case Mode::kUnwantedChunk:
      return DoUnwantedChunk(input, to_client);
    case Mode::kAfterReset:
      mode_ = Mode::kCommand;
      return Swallow(1);
  }
  return kNeedInput;
}

Step RelayScanner::DoCommand(std::string_view input, Buffer& to_client, Buffer& to_backend) {
  if (inbound_ && !SayHello(to_backend)) return kWaitForBackend;
  const size_t plain = PassPlainCommands(input);
  if (plain > 0) return Forward(plain);
  if (questions_.full()) return kWaitForBackend;

  const auto line = protocols::FindLine(input);
  if (!line) {
    if (input.size() <= max_line_bytes_ + 1) return kNeedInput;  // one more: its CR
    if (!questions_.empty()) return kWaitForBackend;
    mode_ = Mode::kSkipLine;
    return Swallow(input.size());
  }
  const size_t line_bytes = line->wire_bytes;
  if (line->text.size() > max_line_bytes_) {
    return RefuseBadCommand("500 5.5.2 Line too long\r\n", line_bytes, to_client);
  }
  if (!IsCleanLine(input.substr(0, line_bytes))) {
    // A lenient backend could read two commands in it, of which we would know one.
    return RefuseBadCommand("500 5.5.2 Bare CR, bare LF or NUL in a command\r\n", line_bytes,
                            to_client);
  }
  const Command command = ParseCommand(line->text);
  if (inbound_ && !NeedsNoLogin(command.verb)) {
    return DoInboundCommand(command, line_bytes, to_client, to_backend);
  }
  switch (command.verb) {
    case Verb::kData:
      if (chunk_after_cr_) {  // RFC 3030 §2 forbids it; a lenient backend would join the two
        return RefuseCommand("503 5.5.1 DATA behind BDAT\r\n", line_bytes, to_client);
      }
      questions_.Push(Question::kData);
      mode_ = Mode::kDataAsked;
      return Forward(line_bytes);
    case Verb::kQuit:
      questions_.Push(Question::kQuit);
      mode_ = Mode::kQuitAsked;
      return Forward(line_bytes);
    case Verb::kBdat:
      return OnBdat(command.argument, line_bytes, to_client, to_backend);
    case Verb::kAuth:  // RFC 4954 §4
      return RefuseCommand("503 5.5.1 Already authenticated\r\n", line_bytes, to_client);
    case Verb::kStartTls:
      return RefuseCommand("503 5.5.1 STARTTLS is not possible after login\r\n", line_bytes,
                           to_client);
    case Verb::kXclient:
    case Verb::kXforward:
      return RefuseCommand("550 5.7.0 Not permitted\r\n", line_bytes, to_client);
    case Verb::kMail:
      return PassWithoutSubmitter(command.argument, line_bytes, to_client, to_backend);
    case Verb::kHelo:
    case Verb::kEhlo:
    case Verb::kRcpt:
    case Verb::kRset:
    case Verb::kNoop:
    case Verb::kVrfy:
    case Verb::kExpn:
    case Verb::kHelp:
    case Verb::kEtrn:  // all plain
    case Verb::kUnknown:
    case Verb::kCount:
      break;
  }
  return RefuseBadCommand("500 5.5.2 Command not recognized\r\n", line_bytes, to_client);
}

// PassPlainCommands records the commands at the beginning of `input` that a backend answers with
// one reply and that change nothing in the framing, and returns how many bytes they are.
size_t RelayScanner::PassPlainCommands(std::string_view input) {
  size_t passed = 0;
  while (const auto line = protocols::FindLine(input.substr(passed))) {
    if (line->text.size() > max_line_bytes_ ||
        !IsCleanLine(input.substr(passed, line->wire_bytes)) ||
        !AskPlain(ParseCommand(line->text))) {
      break;
    }
    passed += line->wire_bytes;
  }
  return passed;
}

bool RelayScanner::AskPlain(const Command& command) {
  if (questions_.full() || (inbound_ && !NeedsNoLogin(command.verb))) return false;
  switch (command.verb) {
    case Verb::kEhlo:
      chunks_refused_ = false;
      if (inbound_ && inbound_->judged) inbound_->client_name = command.argument;
      questions_.Push(Question::kHello);
      return true;
    case Verb::kHelo:
    case Verb::kRset:
      chunks_refused_ = false;
      if (inbound_ && inbound_->judged && command.verb == Verb::kHelo) {
        inbound_->client_name = command.argument;
      }
      questions_.Push(Question::kReset);
      return true;
    case Verb::kMail:
      if (!takes_submitter() && NamesSubmitter(command.argument)) return false;
      chunks_refused_ = false;
      questions_.Push(binary_mime_ && AsksForBinaryMime(command.argument) ? Question::kBinaryMail
                                                                          : Question::kMail);
      return true;
    case Verb::kRcpt:
      questions_.Push(Question::kRcpt);
      return true;
    case Verb::kNoop:
    case Verb::kVrfy:
    case Verb::kExpn:
    case Verb::kHelp:
    case Verb::kEtrn:
      questions_.Push(Question::kOther);
      return true;
    case Verb::kData:
    case Verb::kBdat:
    case Verb::kQuit:
    case Verb::kStartTls:
    case Verb::kAuth:
    case Verb::kXclient:
    case Verb::kXforward:
    case Verb::kUnknown:
    case Verb::kCount:
      break;
  }
  return false;
}

Step RelayScanner::PassWithoutSubmitter(std::string_view argument, size_t line_bytes,
                                        Buffer& to_client, Buffer& to_backend) {
  const auto kept = WithoutAuthParameter(argument);
  if (!kept) {
    return RefuseBadCommand("501 5.1.7 Syntax: MAIL FROM:<address>\r\n", line_bytes, to_client);
  }
  to_backend << "MAIL " << *kept << "\r\n";
  if (inbound_ && inbound_->judged) inbound_->mail = "MAIL " + *kept;
  chunks_refused_ = false;
  questions_.Push(binary_mime_ && AsksForBinaryMime(*kept) ? Question::kBinaryMail
                                                           : Question::kMail);
  return Swallow(line_bytes);
}

Step RelayScanner::RefuseCommand(std::string_view reply, size_t line_bytes, Buffer& to_client) {
  if (!questions_.empty()) return kWaitForBackend;  // our reply must come behind the backend's
  ++counts_.commands_refused;
  to_client << reply;
  return Swallow(line_bytes);
}

// RefuseBadCommand ends with whoever does not speak SMTP, or asks for what nobody may.
Step RelayScanner::RefuseBadCommand(std::string_view reply, size_t line_bytes, Buffer& to_client) {
  const Step step = RefuseCommand(reply, line_bytes, to_client);
  if (step.what != Do::kSwallow || ++bad_commands_ < max_bad_commands_) return step;
  to_client << "421 4.7.0 Too many bad commands\r\n";
  return Close(QuitReason::kTooManyErrors);
}

Step RelayScanner::DoSkipLine(std::string_view input, Buffer& to_client) {
  const size_t end = input.find('\n');
  if (end == std::string_view::npos) return Swallow(input.size());
  mode_ = Mode::kCommand;
  return RefuseBadCommand("500 5.5.2 Line too long\r\n", end + 1, to_client);
}

Step RelayScanner::DoData(std::string_view input, Buffer& to_backend) {
  const MailDataScanner::Result result = data_.Scan(input);
  if (result.clean > 0) {
    message_bytes_ += result.clean;
    if (result.found == Found::kEnd) {
      questions_.Push(Question::kEndOfData);
      mode_ = Mode::kCommand;
    }
    return Forward(result.clean);
  }
  if (result.found == Found::kNothing) return kNeedInput;
  if (result.found == Found::kUnstuffedDot) {
    to_backend << ".";
    ++message_bytes_;
    return DoData(input, to_backend);  // the dot itself is ordinary now
  }
  const bool behind_dot = result.found == Found::kDotBareCr || result.found == Found::kDotBareLf;
  if (bare_newline_ == BareNewline::kNormalize) {
    // A lone dot is stuffed: replaced by CRLF, what stands behind it would end the data.
    const std::string_view replacement = behind_dot ? "..\r\n" : "\r\n";
    to_backend << replacement;
    message_bytes_ += replacement.size();
    data_.NewlineReplaced();
  } else {
    data_.NewlineDropped();
    chunk_asked_ = Asked::kNo;
    mode_ = Mode::kRefusedData;
  }
  return Swallow(behind_dot ? 2 : 1);
}

Step RelayScanner::DoRefusedData(std::string_view input) {
  const MailDataScanner::Result result = data_.Scan(input);
  if (result.found == Found::kEnd) {
    mode_ = Mode::kRefusedBytes;
    chunk_left_ = 1;
    return Swallow(result.clean - 1);
  }
  if (result.clean > 0) return Swallow(result.clean);
  if (result.found == Found::kNothing) return kNeedInput;
  data_.NewlineDropped();
  return Swallow(result.found == Found::kDotBareCr || result.found == Found::kDotBareLf ? 2 : 1);
}

// RFC 3030 §2. The payload stands behind the command, whatever becomes of the command.
Step RelayScanner::OnBdat(std::string_view argument, size_t line_bytes, Buffer& to_client,
                          Buffer& to_backend) {
  if (questions_.Unsettled()) return kWaitForBackend;
  const auto chunk = ParseChunk(argument);
  if (!chunk) {
    const Step step = RefuseCommand("501 5.5.4 Syntax: BDAT size [LAST]; closing connection\r\n",
                                    line_bytes, to_client);
    return step.what == Do::kWaitForBackend ? step : Close(QuitReason::kProtocolViolation);
  }
  if (chunking_ && !chunks_refused_) return ForwardChunk(*chunk, line_bytes, to_backend);

  refusal_ = chunking_ ? "503 5.5.1 Message was refused; send RSET or MAIL\r\n"
                       : "502 5.5.1 BDAT is not offered\r\n";
  if (chunk->bytes == 0) return RefuseCommand(refusal_, line_bytes, to_client);
  if (!questions_.empty()) return kWaitForBackend;
  ++counts_.commands_refused;
  chunk_left_ = chunk->bytes;
  mode_ = Mode::kUnwantedChunk;
  return Swallow(line_bytes);
}

Step RelayScanner::ForwardChunk(const Chunk& chunk, size_t line_bytes, Buffer& to_backend) {
  chunk_last_ = chunk.last;
  if (chunk.last && chunk.bytes == 0 && chunk_after_cr_) {
    // The message would end in a bare CR. The command's last byte waits for the reset.
    chunk_asked_ = Asked::kNo;
    chunk_left_ = 1;
    mode_ = Mode::kRefusedBytes;
    return Swallow(line_bytes - 1);
  }
  // Said anew: "BDAT 010", read as octal by somebody, would move the payload's end.
  to_backend << "BDAT " << std::to_string(chunk.bytes) << (chunk.last ? " LAST\r\n" : "\r\n");
  questions_.Push(chunk.last ? Question::kLastChunk : Question::kChunk);
  chunk_asked_ = Asked::kYes;
  chunk_ = MailDataScanner(Framing::kCounted);
  chunk_left_ = chunk.bytes;
  if (chunk.bytes > 0) mode_ = Mode::kChunk;
  return Swallow(line_bytes);
}

Step RelayScanner::DoChunk(std::string_view input, Buffer& to_client) {
  const auto count = static_cast<size_t>(std::min<uint64_t>(chunk_left_, input.size()));
  const std::string_view piece = input.substr(0, count);
  if (binary_) return PassChunk(count);
  if (chunk_after_cr_) {
    if (piece.front() != '\n') return DoRefusedBytes(input, to_client);
    chunk_after_cr_ = false;
    return PassChunk(1);
  }
  const MailDataScanner::Result result = chunk_.Scan(piece);
  const bool cr_ends_chunk =
      result.found == Found::kNothing && result.clean < count && count == chunk_left_;
  if (cr_ends_chunk && !chunk_last_) {
    chunk_after_cr_ = true;  // the next chunk decides
    return PassChunk(count);
  }
  if (result.clean > 0) return PassChunk(result.clean);
  if (result.found == Found::kNothing && !cr_ends_chunk) return kNeedInput;
  return DoRefusedBytes(input, to_client);
}

Step RelayScanner::PassChunk(size_t count) {
  chunk_left_ -= count;
  message_bytes_ += count;
  if (chunk_left_ == 0) {
    mode_ = Mode::kCommand;
    binary_ = binary_ && transaction_open_;  // see EndTransaction
  }
  return Forward(count);
}

// The last byte stays with the caller: it is what makes it call again after the reset.
Step RelayScanner::DoRefusedBytes(std::string_view input, Buffer& to_client) {
  mode_ = Mode::kRefusedBytes;
  if (chunk_left_ > 1) {
    const auto count = static_cast<size_t>(std::min<uint64_t>(chunk_left_ - 1, input.size()));
    chunk_left_ -= count;
    return Swallow(count);
  }
  const size_t own = chunk_asked_ == Asked::kYes ? 1 : 0;
  if (questions_.size() > own || reply_code_ != 0) return kWaitForBackend;
  if (chunk_asked_ != Asked::kAnswered) to_client << kBareNewlineReply;
  ++counts_.smuggling_refused;
  chunks_refused_ = chunk_asked_ != Asked::kNo && !chunk_last_;
  questions_.Clear();
  EndTransaction();
  mode_ = Mode::kReset;
  return {Do::kResetBackend};
}

Step RelayScanner::DoUnwantedChunk(std::string_view input, Buffer& to_client) {
  const auto count = static_cast<size_t>(std::min<uint64_t>(chunk_left_, input.size()));
  chunk_left_ -= count;
  if (chunk_left_ == 0) {
    to_client << refusal_;
    mode_ = Mode::kCommand;
  }
  return Swallow(count);
}

// ---- backend to client
// ---------------------------------------------------------------------------------

Step RelayScanner::FromBackend(std::string_view input, Buffer& to_client) {
  size_t passed = 0;
  while (const auto line = protocols::FindLine(input.substr(passed))) {
    const auto reply = ParseReplyLine(line->text);
    const bool understood = reply && line->text.size() <= max_line_bytes_ &&
                            (reply_code_ == 0 || reply->code == reply_code_);
    const bool believed = understood && Believable(reply->code);
    const bool is_own = believed && reply->code != 421 && !questions_.empty() &&
                        questions_.front() == Question::kOwnHello;
    const bool is_hello = is_own || (believed && reply->code < 300 && !questions_.empty() &&
                                     questions_.front() == Question::kHello);
    const bool farewell =
        believed && reply->last &&
        (reply->code == 421 || (reply->code == 221 && questions_.front() == Question::kQuit));
    if (believed && !is_hello && !farewell) {
      passed += line->wire_bytes;
      reply_code_ = reply->last ? 0 : reply->code;
      if (reply->last && !questions_.empty()) OnReply(reply->code);
      continue;
    }
    if (passed > 0) break;  // that first; then this line again
    if (!believed) return BackendError(to_client);
    if (is_hello) return CollectHello(*reply, line->wire_bytes, to_client);
    to_client << input.substr(0, line->wire_bytes);
    reply_code_ = 0;
    return Close(QuitReason::kLoggedOut);
  }
  if (passed > 0) return Forward(passed);
  if (input.size() > max_line_bytes_ + 1) return BackendError(to_client);
  return kNeedInput;
}

// A reply is believed only if its question was asked.
bool RelayScanner::Believable(unsigned code) const {
  if (code == 421) return true;  // RFC 5321 §3.8: at any time
  if (questions_.empty()) return false;
  if (code < 400 && code >= 300) return code == 354 && questions_.front() == Question::kData;
  const bool before_its_end =
      chunk_under_way() && chunk_asked_ == Asked::kYes && questions_.size() == 1;
  return code >= 400 || !before_its_end;  // nobody can have accepted half a chunk
}

bool RelayScanner::chunk_under_way() const {
  return mode_ == Mode::kChunk || mode_ == Mode::kRefusedBytes;
}

void RelayScanner::Count(protocols::RelayCounts::Asked asked, unsigned code) {
  using Class = protocols::RelayCounts::Class;
  const Class of = code / 100 == 2 ? Class::k2xx : code / 100 == 4 ? Class::k4xx : Class::k5xx;
  ++counts_.replies[static_cast<size_t>(asked)][static_cast<size_t>(of)];
}

void RelayScanner::OnReply(unsigned code) {
  using Counted = protocols::RelayCounts::Asked;
  const Question question = questions_.front();
  if (chunk_under_way() && chunk_asked_ == Asked::kYes && questions_.size() == 1) {
    chunk_asked_ = Asked::kAnswered;
  }
  questions_.PopFront();
  const bool positive = code / 100 == 2;
  switch (question) {
    case Question::kHello:
    case Question::kReset:
      if (positive) EndTransaction();
      break;
    case Question::kOwnHello:
      break;  // where it was refused, the replies to what follows say so
    case Question::kMail:
    case Question::kBinaryMail:
      Count(Counted::kMail, code);
      if (!positive) break;
      EndTransaction();
      transaction_open_ = true;
      binary_ = question == Question::kBinaryMail;
      break;
    case Question::kRcpt:
      Count(Counted::kRcpt, code);
      if (positive) ++counts_.recipients;
      break;
    case Question::kData:
      mode_ = code == 354 ? Mode::kData : Mode::kCommand;
      data_ = MailDataScanner(Framing::kDotStuffed);
      message_bytes_ = 0;
      break;
    case Question::kEndOfData:
    case Question::kLastChunk:
      Count(Counted::kMessage, code);
      if (positive) {
        ++counts_.messages_accepted;
        counts_.message_bytes += message_bytes_;
      } else {
        ++counts_.messages_refused;
      }
      EndTransaction();
      break;
    case Question::kChunk:
    case Question::kOther:
      break;  // refused or not, the transaction lasts until the last chunk or RSET
    case Question::kQuit:
      mode_ = Mode::kCommand;  // not 221: refused
      break;
  }
}

// The EHLO reply is held until it is complete: if its last line is removed, another becomes last.
Step RelayScanner::CollectHello(const ReplyLine& reply, size_t line_bytes, Buffer& to_client) {
  if (reply_code_ == 0) {
    chunking_ = binary_mime_ = false;
    hello_last_ = 0;
    hello_reply_ = "250-" + hostname_ + "\r\n";
  } else {
    Learn(reply.text);
    if (MayOffer(reply.text, bare_newline_ == BareNewline::kReject)) {
      hello_last_ = hello_reply_.size();
      hello_reply_.append("250-").append(reply.text).append("\r\n");
    }
  }
  reply_code_ = reply.last ? 0 : reply.code;
  if (hello_reply_.size() > kMaxHelloReplyBytes) {
    return BackendError(to_client);
  }
  if (reply.last) {
    hello_reply_[hello_last_ + 3] = ' ';
    if (questions_.front() != Question::kOwnHello) to_client << hello_reply_;
    hello_reply_ = {};
    OnReply(reply.code);
  }
  return Swallow(line_bytes);
}

void RelayScanner::Learn(std::string_view keyword_line) {
  const std::string_view name = KeywordName(keyword_line);
  if (protocols::EqualsIgnoreCase(name, "AUTH")) auth_ = true;
  // Normalising changes the length of what was announced by its size, so chunks can't pass.
  if (bare_newline_ == BareNewline::kNormalize) return;
  if (protocols::EqualsIgnoreCase(name, "CHUNKING")) chunking_ = true;
  if (protocols::EqualsIgnoreCase(name, "BINARYMIME")) binary_mime_ = true;
}

Step RelayScanner::BackendError(Buffer& to_client) {
  if (CanSpeak()) Say(protocols::Notice::kBackendLost, to_client);
  return Close(QuitReason::kProtocolViolation);
}

void RelayScanner::EndTransaction() {
  transaction_open_ = false;
  // A last chunk that was answered before all of it was sent stays what it is to its end.
  if (mode_ != Mode::kChunk) binary_ = false;
  message_bytes_ = 0;
  chunk_after_cr_ = false;
}

// ---- the session's questions
// ---------------------------------------------------------------------------

void RelayScanner::SetBackend(const protocols::Capabilities& capabilities) {
  chunking_ = binary_mime_ = auth_ = false;
  for (const std::string& keyword_line : capabilities) Learn(keyword_line);
}

void RelayScanner::BackendReset() {
  questions_.Clear();
  if (inbound_) inbound_->hello_said = false;
  reply_code_ = 0;
  hello_reply_ = {};
  mode_ = mode_ == Mode::kReset ? Mode::kAfterReset : Mode::kCommand;
}

bool RelayScanner::AtBoundary() const {
  return mode_ == Mode::kCommand && questions_.empty() && reply_code_ == 0 && !transaction_open_;
}

bool RelayScanner::AwaitsVerdict() const {
  return questions_.Has(Question::kEndOfData) ||
         (questions_.Has(Question::kLastChunk) && !chunk_under_way());
}

bool RelayScanner::CanSpeak() const {
  if (reply_code_ != 0 && hello_reply_.empty()) return false;
  switch (mode_) {
    case Mode::kCommand:
    case Mode::kSkipLine:
    case Mode::kDataAsked:
    case Mode::kQuitAsked:
    case Mode::kReset:
    case Mode::kAfterReset:
      return true;
    case Mode::kData:
    case Mode::kRefusedData:
    case Mode::kChunk:
    case Mode::kRefusedBytes:
    case Mode::kUnwantedChunk:
      return false;
  }
  return false;
}

void RelayScanner::Say(protocols::Notice notice, Buffer& to_client) {
  AppendNotice(notice, hostname_, to_client);
}

// ---- outstanding questions
// -----------------------------------------------------------------------------

void RelayScanner::Questions::Push(Question question) {
  ring_[(first_ + size_) % kRoom] = question;
  ++size_;
}

void RelayScanner::Questions::PopFront() {
  first_ = static_cast<uint8_t>((first_ + 1) % kRoom);
  --size_;
}

bool RelayScanner::Questions::Has(Question question) const {
  for (size_t i = 0; i < size_; ++i) {
    if (ring_[(first_ + i) % kRoom] == question) return true;
  }
  return false;
}

bool RelayScanner::Questions::Unsettled() const {
  for (size_t i = 0; i < size_; ++i) {
    const Question question = ring_[(first_ + i) % kRoom];
    if (question == Question::kHello || question == Question::kReset ||
        question == Question::kMail || question == Question::kBinaryMail ||
        question == Question::kEndOfData || question == Question::kLastChunk) {
      return true;
    }
  }
  return false;
}

}  // namespace gatepost::smtp
