// The relay scanner's part for clients that have not logged in: whom they may send mail to.
// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "protocols/smtp/inbound.h"
#include "protocols/smtp/relay_scanner.h"

namespace gatepost::smtp {

using protocols::Buffer;
using Do = protocols::RelayScanner::Do;
using Step = protocols::RelayScanner::Step;

void RelayScanner::TakeInbound(std::shared_ptr<const std::vector<std::string>> local_domains,
                               std::string_view client_name) {
  inbound_ = std::make_unique<Inbound>();
  inbound_->local_domains = std::move(local_domains);
  inbound_->hello_name = HelloName(client_name);
  inbound_->recipients_left = max_bad_commands_;
}

// SayHello says whether the backend knows the client's name by now.
bool RelayScanner::SayHello(Buffer& to_backend) {
  if (!inbound_->hello_said) {
    inbound_->hello_said = true;
    if (inbound_->hello_name.empty()) return true;
    to_backend << "EHLO " << inbound_->hello_name << "\r\n";
    questions_.Push(Question::kOwnHello);
  }
  // RFC 2920 §3.1: nothing is sent behind EHLO before its reply.
  return questions_.empty() || questions_.front() != Question::kOwnHello;
}

Step RelayScanner::DoInboundCommand(const Command& command, size_t line_bytes, Buffer& to_client,
                                    Buffer& to_backend) {
  switch (command.verb) {
    case Verb::kMail:
      return OnInboundMail(command.argument, line_bytes, to_client, to_backend);
    case Verb::kRcpt:
      return OnInboundRcpt(command.argument, line_bytes, to_client, to_backend);
    case Verb::kAuth:  // the connection has a backend by now, to which the client is a stranger
      return RefuseCommand("503 5.5.1 AUTH must come before the first MAIL\r\n", line_bytes,
                           to_client);
    case Verb::kStartTls:
      return RefuseCommand("503 5.5.1 STARTTLS must come before the first MAIL\r\n", line_bytes,
                           to_client);
    case Verb::kVrfy:
    case Verb::kExpn:
    case Verb::kEtrn:
      return RefuseCommand("530 5.7.0 Authentication required\r\n", line_bytes, to_client);
    case Verb::kXclient:
    case Verb::kXforward:
      return RefuseCommand("550 5.7.0 Not permitted\r\n", line_bytes, to_client);
    case Verb::kHelo:
    case Verb::kEhlo:
    case Verb::kData:
    case Verb::kBdat:
    case Verb::kRset:
    case Verb::kNoop:
    case Verb::kQuit:
    case Verb::kHelp:  // all pass
    case Verb::kUnknown:
    case Verb::kCount:
      break;
  }
  return RefuseCommand("500 5.5.2 Command not recognized\r\n", line_bytes, to_client);
}

Step RelayScanner::OnInboundMail(std::string_view argument, size_t line_bytes, Buffer& to_client,
                                 Buffer& to_backend) {
  const auto kept = WithoutAuthParameter(argument);
  if (!kept) {
    return RefuseCommand("501 5.1.7 Syntax: MAIL FROM:<address>\r\n", line_bytes, to_client);
  }
  to_backend << "MAIL " << *kept << "\r\n";
  chunks_refused_ = false;
  questions_.Push(binary_mime_ && AsksForBinaryMime(*kept) ? Question::kBinaryMail
                                                           : Question::kMail);
  return {Do::kSwallow, line_bytes};
}

// What is passed on is written anew, so that the backend reads the address that was judged.
Step RelayScanner::OnInboundRcpt(std::string_view argument, size_t line_bytes, Buffer& to_client,
                                 Buffer& to_backend) {
  const Recipient recipient = ParseRecipient(argument, *inbound_->local_domains);
  if (recipient.kind == Recipient::Kind::kLocal) {
    to_backend << recipient.Command();
    questions_.Push(Question::kRcpt);
    return {Do::kSwallow, line_bytes};
  }
  const bool foreign = recipient.kind == Recipient::Kind::kForeign;
  Step step = RefuseCommand(
      foreign ? "550 5.7.1 Relaying denied\r\n" : "501 5.1.3 Syntax: RCPT TO:<address>\r\n",
      line_bytes, to_client);
  if (step.what != Do::kSwallow) return step;
  if (foreign) ++counts_.relaying_denied;
  if (--inbound_->recipients_left > 0) return step;
  to_client << "421 4.7.0 Too many recipients refused\r\n";
  return {Do::kClose, 0, protocols::QuitReason::kTooManyErrors};
}

}  // namespace gatepost::smtp
