// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/dovecot_authority.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <variant>

#include "config/values.h"
#include "gateway/worker.h"

namespace gatepost::auth {
namespace {

constexpr uint64_t kFirstPauseMs = 100;
constexpr uint64_t kLongestPauseMs = 5'000;

uint64_t Milliseconds(std::chrono::milliseconds duration) {
  return static_cast<uint64_t>(duration.count());
}

Verdict Outage(std::string detail) {
  Verdict verdict;
  verdict.reason = protocols::LoginFailure::kUnavailable;
  verdict.detail = std::move(detail);
  return verdict;
}

Verdict TooLong() {
  Verdict verdict;
  verdict.detail = "the client's message is too long for Dovecot";
  return verdict;
}

// ConnectUnix returns a connected descriptor, or -1 and errno. It never waits.
int ConnectUnix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(static_cast<char*>(address.sun_path), sizeof(address.sun_path) - 1);
  const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return -1;
  if (connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    return descriptor;
  }
  const int error = errno;
  close(descriptor);
  errno = error;
  return -1;
}

}  // namespace

// Task is one question until its answer.
struct DovecotAuthority::Task final : net::Deadlines::Entry {
  Task(DovecotAuthority& authority, uint32_t number, const Request& question)
      : owner(authority),
        request(number),
        id(question.id),
        protocol(question.protocol),
        mechanism(DovecotMechanismFor(question.credentials.mechanism)) {}
  void OnDeadline() override { owner.OnOverdue(*this); }

  DovecotAuthority& owner;
  const uint32_t request;
  const SessionId id;
  const protocols::Protocol protocol;
  const sasl::Mechanism mechanism;
  enum class Turn : uint8_t { kWaiting, kDovecot, kClient };
  Turn turn = Turn::kWaiting;
  uint64_t asked_ms = 0;           // loop time
  protocols::Buffer line;          // while kWaiting
  std::optional<Verdict> verdict;  // which waits for the client to take note of the last message
};

DovecotAuthority::DovecotAuthority(Worker& worker, const AuthorityRuntime& authority,
                                   Answers& answers)
    : worker_(worker),
      authority_(authority),
      answers_(answers),
      turns_(authority.settings.max_concurrent) {
  worker_.deadlines().Arm(*this, 0);  // from the loop
}

DovecotAuthority::~DovecotAuthority() {
  if (stream_) worker_.Bury(std::move(stream_));
}

sasl::MechanismSet DovecotAuthority::Mechanisms(const BackendMechanisms& backend) const {
  using sasl::Mechanism;
  constexpr sasl::MechanismSet kPasswords = {Mechanism::kPlain, Mechanism::kLogin,
                                             Mechanism::kProtocol};
  if (!known_) return kPasswords;
  sasl::MechanismSet own = *known_;
  own.Remove(Mechanism::kLogin);
  // However a password comes, it is put to Dovecot by PLAIN.
  if (own.Has(Mechanism::kPlain)) own = own | kPasswords;
  return authority_.settings.returns_pass ? own : own & backend.served;
}

// ---- questions
// -----------------------------------------------------------------------------------

std::optional<Verdict> DovecotAuthority::Check(const Request& request) {
  if (state_ == State::kDown) return Outage("Dovecot's auth process: " + detail_);
  if (turns_.full()) {
    return Outage("too many questions wait for Dovecot");
  }
  do {
    ++last_request_;
  } while (last_request_ == 0 || tasks_.contains(last_request_));
  auto task = std::make_unique<Task>(*this, last_request_, request);
  if (!AppendDovecotAuth(last_request_, request, task->line)) return TooLong();
  worker_.deadlines().Arm(*task, Milliseconds(authority_.settings.timeout));
  requests_[KeyOf(request.id)] = last_request_;
  turns_.Wait(last_request_);
  tasks_[last_request_] = std::move(task);
  StartNext();
  return std::nullopt;
}

void DovecotAuthority::StartNext() {
  if (state_ != State::kReady) return;
  turns_.Start([this](uint32_t request) {
    Task* task = Find(request);
    if (task == nullptr) return false;
    // Dovecot gives the whole connection up where it is asked for another.
    if (!known_->Has(task->mechanism)) {
      Finish(*task, Outage("Dovecot has no " + std::string(sasl::Name(task->mechanism))));
      return false;
    }
    Send(task->line);
    AwaitDovecot(*task);
    return true;
  });
}

void DovecotAuthority::AwaitDovecot(Task& task) {
  task.turn = Task::Turn::kDovecot;
  task.asked_ms = worker_.Now();
  worker_.deadlines().Arm(task, Milliseconds(authority_.settings.timeout));
}

// The client's time is bounded by limits.login_timeout.
void DovecotAuthority::AwaitClient(Task& task, std::string_view challenge) {
  if (std::exchange(task.turn, Task::Turn::kClient) == Task::Turn::kDovecot) turns_.Release();
  net::Deadlines::Disarm(task);
  StartNext();
  answers_.OnChallenge(task.id, challenge);
}

void DovecotAuthority::Continue(SessionId id, std::string_view answer) {
  const auto found = requests_.find(KeyOf(id));
  if (found == requests_.end()) return;
  Task& task = *tasks_.at(found->second);
  if (task.verdict) {
    Verdict verdict = *std::move(task.verdict);
    return Finish(task, std::move(verdict));
  }
  protocols::Buffer line;
  if (!AppendDovecotContinue(task.request, answer, line)) {
    Remove(task, true);
    return answers_.OnVerdict(id, TooLong());
  }
  Send(line);
  turns_.Take();
  AwaitDovecot(task);
}

void DovecotAuthority::Cancel(SessionId id) {
  const auto found = requests_.find(KeyOf(id));
  if (found == requests_.end()) return;
  Remove(*tasks_.at(found->second), true);
  StartNext();
}

void DovecotAuthority::OnOverdue(Task& task) {
  Verdict verdict = Outage("Dovecot did not answer in time");
  verdict.timed_out = true;
  const bool silent = task.turn == Task::Turn::kDovecot && heard_ms_ <= task.asked_ms;
  const SessionId id = task.id;
  Remove(task, true);
  answers_.OnVerdict(id, std::move(verdict));
  // Not a word to anybody: another connection may be better.
  if (silent && state_ == State::kReady) return Lost("no answer in time");
  StartNext();
}

DovecotAuthority::Task* DovecotAuthority::Find(uint32_t request) {
  const auto found = tasks_.find(request);
  return found == tasks_.end() ? nullptr : found->second.get();
}

void DovecotAuthority::Finish(Task& task, Verdict verdict) {
  const SessionId id = task.id;
  Remove(task, false);
  StartNext();
  answers_.OnVerdict(id, std::move(verdict));
}

void DovecotAuthority::Remove(Task& task, bool cancel) {
  if (task.turn == Task::Turn::kDovecot) turns_.Release();
  if (cancel && task.turn != Task::Turn::kWaiting && !task.verdict) {
    protocols::Buffer line;
    AppendDovecotCancel(task.request, line);
    Send(line);
  }
  requests_.erase(KeyOf(task.id));
  tasks_.erase(task.request);
}

void DovecotAuthority::Send(protocols::Buffer& lines) {
  stream_->Write(lines.view());
  lines.Clear();
}

// ---- the connection
// ------------------------------------------------------------------------------

void DovecotAuthority::Connect() {
  state_ = State::kConnecting;
  const config::ServiceSocket& socket = authority_.settings.socket;
  if (socket.path.empty()) {
    dial_ = std::make_unique<net::Dial>(worker_.loop(), worker_.resolver(), worker_.deadlines(),
                                        socket.address.host, socket.address.port,
                                        authority_.settings.connect_timeout, *this);
    return;
  }
  const int descriptor = ConnectUnix(socket.path);
  if (descriptor < 0) return Lost(std::strerror(errno));
  // To libuv a stream is a stream: what is of TCP alone is not asked of it.
  net::HandlePtr<uv_tcp_t> connection(new uv_tcp_t);
  uv_tcp_init(worker_.loop(), connection.get());
  if (const int status = uv_tcp_open(connection.get(), descriptor); status != 0) {
    close(descriptor);
    return Lost(uv_strerror(status));
  }
  Connected(std::move(connection));
}

void DovecotAuthority::OnDialed(net::Dial&) {
  const std::unique_ptr<net::Dial> dial = std::move(dial_);
  if (dial->result() != net::Dial::Result::kConnected) return Lost(dial->error());
  Connected(dial->TakeConnection());
}

void DovecotAuthority::Connected(net::HandlePtr<uv_tcp_t> connection) {
  stream_ = std::make_unique<net::Stream>(worker_.io(), std::move(connection), *this);
  stream_->ResumeReading();
  learning_.reset();
  version_fits_ = false;
  worker_.deadlines().Arm(*this, Milliseconds(authority_.settings.connect_timeout));
  protocols::Buffer lines;
  AppendDovecotHandshake(static_cast<uint32_t>(gettid()), lines);
  Send(lines);
}

void DovecotAuthority::OnDeadline() {
  if (stream_) return Lost("no handshake in time");
  Connect();
}

void DovecotAuthority::OnPlaintext(net::Stream&, net::Bytes plaintext) {
  heard_ms_ = worker_.Now();
  input_.Append(net::AsText(plaintext));
  Read();
}

void DovecotAuthority::OnStreamEvent(net::Stream&, net::Stream::Event event) {
  switch (event) {
    case net::Stream::Event::kEnd:
      return Lost("Dovecot closed the connection");
    case net::Stream::Event::kFailed: {
      const std::string error = stream_->error();
      return Lost(error);
    }
    case net::Stream::Event::kTlsEstablished:
    case net::Stream::Event::kDrained:
      return;
  }
}

void DovecotAuthority::Read() {
  while (stream_) {
    const size_t end = input_.view().find('\n');
    if (std::min(end, input_.size()) > kMaxDovecotLineBytes) return Lost("a line too long");
    if (end == std::string_view::npos) return;
    const std::string wrong = OnLine(input_.view().substr(0, end));
    if (!wrong.empty()) return Lost(wrong);
    input_.Consume(end + 1);
  }
}

std::string DovecotAuthority::OnLine(std::string_view line) {
  const std::optional<DovecotLine> parsed = ParseDovecotLine(line);
  if (!parsed) return "not a line of the protocol";
  if (const auto* version = std::get_if<DovecotVersion>(&*parsed)) {
    if (version->major != 1) return "another version of the protocol";
    version_fits_ = true;
  } else if (const auto* mechanism = std::get_if<DovecotMechanism>(&*parsed)) {
    if (!learning_) learning_.emplace();
    if (mechanism->mechanism) learning_->Add(*mechanism->mechanism);
  } else if (std::holds_alternative<DovecotDone>(*parsed)) {
    if (!version_fits_ || !learning_) return "a greeting without a version or a mechanism";
    OnReady();
  } else if (const auto* next = std::get_if<DovecotContinue>(&*parsed)) {
    Task* task = Find(next->id);
    if (task != nullptr && task->turn == Task::Turn::kDovecot) {
      AwaitClient(*task, next->challenge.Reveal());
    }
  } else if (const auto* ok = std::get_if<DovecotOk>(&*parsed)) {
    if (Task* task = Find(ok->id)) OnOk(*task, *ok);
  } else if (const auto* fail = std::get_if<DovecotFail>(&*parsed)) {
    if (Task* task = Find(fail->id)) Finish(*task, VerdictOf(*fail));
  }
  return {};
}

void DovecotAuthority::OnReady() {
  net::Deadlines::Disarm(*this);
  state_ = State::kReady;
  known_ = learning_;
  pause_ms_ = 0;
  authority_.up.store(true, std::memory_order_relaxed);
  if (std::exchange(reported_, false)) {
    worker_.log().Write(observe::Level::kInfo, "authority_recovered",
                        {{"authority", authority_.settings.name},
                         {"socket", config::Text(authority_.settings.socket)}});
  }
  StartNext();
}

void DovecotAuthority::OnOk(Task& task, const DovecotOk& ok) {
  const std::optional<sasl::Secret> message = FinalMessageOf(ok);
  Verdict verdict = message ? VerdictOf(ok, task.protocol)
                            : Outage("Dovecot's last message to the client is no base64");
  if (!verdict.accepted || message->empty()) return Finish(task, std::move(verdict));
  task.verdict = std::move(verdict);
  AwaitClient(task, message->Reveal());
}

void DovecotAuthority::Lost(const std::string& detail) {
  net::Deadlines::Disarm(*this);
  dial_.reset();
  if (stream_) worker_.Bury(std::move(stream_));
  input_.Clear();
  state_ = State::kDown;
  detail_ = detail;
  authority_.up.store(false, std::memory_order_relaxed);
  if (!std::exchange(reported_, true)) {
    worker_.log().Write(observe::Level::kWarning, "authority_failed",
                        {{"authority", authority_.settings.name},
                         {"socket", config::Text(authority_.settings.socket)},
                         {"detail", detail}});
  }
  pause_ms_ = std::clamp(pause_ms_ * 2, kFirstPauseMs, kLongestPauseMs);
  worker_.deadlines().Arm(*this, pause_ms_);
  turns_.Clear();
  requests_.clear();
  for (auto& [request, task] : std::exchange(tasks_, {})) {
    // Where the answer is known already, it stands.
    answers_.OnVerdict(task->id, task->verdict ? *std::move(task->verdict)
                                               : Outage("Dovecot's auth process: " + detail_));
  }
}

}  // namespace gatepost::auth
