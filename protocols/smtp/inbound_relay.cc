// The relay scanner's part for clients that have not logged in: whom they may send mail to.
// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "protocols/smtp/inbound.h"
#include "protocols/smtp/relay_scanner.h"

namespace gatepost::smtp {

using protocols::Buffer;
using Do = protocols::RelayScanner::Do;
using Step = protocols::RelayScanner::Step;

namespace {

constexpr Step kWaitForBackend{Do::kWaitForBackend};

}  // namespace

void RelayScanner::TakeInbound(std::shared_ptr<const std::vector<std::string>> local_domains,
                               std::string_view client_name, bool judged) {
  inbound_ = std::make_unique<Inbound>();
  inbound_->local_domains = std::move(local_domains);
  inbound_->hello_name = HelloName(client_name);
  inbound_->recipients_left = max_bad_commands_;
  inbound_->judged = judged;
  if (judged) inbound_->client_name = client_name;
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
      return PassWithoutSubmitter(command.argument, line_bytes, to_client, to_backend);
    case Verb::kRcpt:
      return OnInboundRcpt(command.argument, line_bytes, to_client, to_backend);
    case Verb::kAuth:  // the connection has a backend by now, to which the client is a stranger
      return RefuseBadCommand("503 5.5.1 AUTH must come before the first MAIL\r\n", line_bytes,
                              to_client);
    case Verb::kStartTls:
      return RefuseBadCommand("503 5.5.1 STARTTLS must come before the first MAIL\r\n", line_bytes,
                              to_client);
    case Verb::kVrfy:
    case Verb::kExpn:
    case Verb::kEtrn:
      return RefuseBadCommand("530 5.7.0 Authentication required\r\n", line_bytes, to_client);
    case Verb::kXclient:
    case Verb::kXforward:
      return RefuseBadCommand("550 5.7.0 Not permitted\r\n", line_bytes, to_client);
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
  return RefuseBadCommand("500 5.5.2 Command not recognized\r\n", line_bytes, to_client);
}

// What is passed on is written anew, so that the backend reads the address that was judged.
Step RelayScanner::OnInboundRcpt(std::string_view argument, size_t line_bytes, Buffer& to_client,
                                 Buffer& to_backend) {
  const smtp::Recipient recipient = ParseRecipient(argument, *inbound_->local_domains);
  if (recipient.kind == smtp::Recipient::Kind::kLocal) {
    std::string command = recipient.Command();
    if (inbound_->judged && inbound_->refusal != std::string()) {
      return AskAbout(std::move(command), line_bytes, to_client);
    }
    inbound_->refusal.reset();
    inbound_->rcpt.clear();
    to_backend << command;
    questions_.Push(Question::kRcpt);
    return {Do::kSwallow, line_bytes};
  }
  const bool foreign = recipient.kind == smtp::Recipient::Kind::kForeign;
  const Step step = RefuseRecipient(
      foreign ? "550 5.7.1 Relaying denied\r\n" : "501 5.1.3 Syntax: RCPT TO:<address>\r\n",
      line_bytes, to_client);
  if (step.what != Do::kWaitForBackend && foreign) ++counts_.relaying_denied;
  return step;
}

// AskAbout has a recipient judged who is local. The client's MAIL is answered first: where it was
// refused nobody is asked.
Step RelayScanner::AskAbout(std::string rcpt, size_t line_bytes, Buffer& to_client) {
  if (inbound_->refusal) {
    const Step step = RefuseRecipient(*inbound_->refusal + "\r\n", line_bytes, to_client);
    if (step.what == Do::kWaitForBackend) return step;
    inbound_->refusal.reset();
    inbound_->rcpt.clear();
    return step;
  }
  if (questions_.Unsettled()) return kWaitForBackend;
  if (!transaction_open_) {
    // It may have come: clients pipeline (RFC 2920).
    return RefuseCommand("503 5.5.1 MAIL must come first\r\n", line_bytes, to_client);
  }
  if (inbound_->rcpt.empty()) {
    rcpt.resize(rcpt.size() - 2);  // CRLF
    inbound_->rcpt = std::move(rcpt);
    ++inbound_->asked;
  }
  return {Do::kAsk};
}

protocols::RelayScanner::Recipient RelayScanner::recipient() const {
  if (!inbound_) return {};
  return {inbound_->client_name, inbound_->mail, inbound_->rcpt, inbound_->asked};
}

void RelayScanner::Judge(std::string_view refusal) {
  if (inbound_ && !inbound_->rcpt.empty()) inbound_->refusal = std::string(refusal);
}

// RefuseRecipient ends with whoever tries too many.
Step RelayScanner::RefuseRecipient(std::string_view reply, size_t line_bytes, Buffer& to_client) {
  const Step step = RefuseCommand(reply, line_bytes, to_client);
  if (step.what != Do::kSwallow || reply.front() == '4') return step;
  if (--inbound_->recipients_left > 0) return step;
  to_client << "421 4.7.0 Too many recipients refused\r\n";
  return {Do::kClose, 0, protocols::QuitReason::kTooManyErrors};
}

}  // namespace gatepost::smtp
