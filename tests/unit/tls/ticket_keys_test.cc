// Ticket keys: what a file may say, and which tickets open when.
// SPDX-License-Identifier: Apache-2.0
#include "tls/ticket_keys.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <string>

#include "tests/unit/tls/channel_pair.h"
#include "tests/unit/tls/fixtures.h"
#include "tests/unit/tls/raw_client.h"

namespace gatepost::tls::test {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

// Key `number` as a line of 80 bytes that are all the same.
std::string Hex(uint8_t number) {
  std::string line;
  char digits[3];
  std::snprintf(digits, sizeof digits, "%02x", number);
  for (int i = 0; i < 80; ++i) line += digits;
  return line;
}

class TicketFile : public testing::Test {
 protected:
  std::filesystem::path Write(const std::string& content) const {
    return folder.Write("ticket.keys", content);
  }

  std::string ErrorOf(const std::string& content) const {
    const auto keys = TicketKeys::Load(Write(content), hours(1));
    if (keys) return "good";
    return keys.error().text.substr(folder.path().native().size() + 1);
  }

  Folder folder;
};

TEST_F(TicketFile, HasLinesOfHexadecimalOrBase64) {
  std::string base64;
  for (int i = 0; i < 26; ++i) base64 += "ERER";
  base64 += "ERE=";
  const auto keys = TicketKeys::Load(
      Write("# the old one\n" + Hex(1) + "\n\n" + Hex(0xAb) + "  \r\n" + base64), hours(1));
  ASSERT_TRUE(keys) << keys.error().text;
  EXPECT_EQ((*keys)->size(), 3U);
  EXPECT_EQ((*keys)->file(), folder.path() / "ticket.keys");
  // 0x11 is what the base64 says.
  EXPECT_EQ(ErrorOf(Hex(0x11) + "\n" + base64),
            "ticket.keys:2: this ticket key stands in the file already");
}

TEST_F(TicketFile, IsRefusedWithTheLineButNotTheKey) {
  const std::string wanted =
      "160 hexadecimal digits, as `openssl rand -hex 80` prints them, or the same 80 bytes in "
      "base64";
  EXPECT_EQ(ErrorOf(""), "ticket.keys: no ticket key found; use lines of " + wanted);
  EXPECT_EQ(ErrorOf("# none\n\n"), "ticket.keys: no ticket key found; use lines of " + wanted);
  for (const std::string& line :
       {std::string("secret"), Hex(1).substr(1), Hex(1) + "0", "g" + Hex(1).substr(1),
        Hex(1).substr(0, 106) + "==", std::string(108, '='), std::string(80, '\0'),
        std::string("x ") + Hex(1)}) {
    EXPECT_EQ(ErrorOf(Hex(2) + "\n" + line + "\n"),
              "ticket.keys:2: not a ticket key; use " + wanted);
  }
  std::string many;
  for (uint8_t i = 0; i < 65; ++i) many += Hex(i) + "\n";
  EXPECT_EQ(ErrorOf(many), "ticket.keys:65: too many ticket keys; three are enough");
  EXPECT_FALSE(TicketKeys::Load(folder.path() / "none", hours(1)));
}

TEST_F(TicketFile, IsReadAnewAndKeptWhenItIsBad) {
  const auto keys = *TicketKeys::Load(Write(Hex(1)), hours(1));
  const auto before = keys->Snapshot();
  EXPECT_EQ(keys->Reload(), false);
  EXPECT_EQ(keys->Snapshot(), before);
  Write(Hex(1) + "\n" + Hex(2));
  EXPECT_EQ(keys->Reload(), true);
  EXPECT_EQ(keys->size(), 2U);
  Write("nonsense");
  EXPECT_FALSE(keys->Reload());
  EXPECT_EQ(keys->size(), 2U);
  EXPECT_FALSE(keys->RotateIfDue(TicketKeys::Clock::now() + hours(1000)));
}

TEST(TicketUseNames, AreMetricLabels) {
  std::set<std::string_view> names;
  for (size_t i = 0; i < static_cast<size_t>(TicketUse::kCount); ++i) {
    names.insert(Name(static_cast<TicketUse>(i)));
  }
  EXPECT_EQ(names.size(), static_cast<size_t>(TicketUse::kCount));
}

// What happens to tickets, in both versions that have them.
class Tickets : public testing::TestWithParam<uint16_t> {
 protected:
  Tickets() {
    SSL_CTX_set_min_proto_version(client.context(), GetParam());
    SSL_CTX_set_max_proto_version(client.context(), GetParam());
  }

  static std::shared_ptr<const ServerContext> Context(std::shared_ptr<const TicketKeys> keys,
                                                      std::string alpn = "imap") {
    ServerOptions options;
    options.alpn = std::move(alpn);
    options.certificates = SimpleStore();
    options.ticket_keys = std::move(keys);
    return *ServerContext::Make(options);
  }

  // Connects, takes the ticket if there is one, and says how it went: "full", "resumed", and which
  // key had sealed.
  std::string Connect(const std::shared_ptr<const ServerContext>& context) {
    Transport wire;
    Channel server(wire, context);
    client.Connect();
    if (!client.Handshake(server, wire)) return client.error + "/" + server.error();
    EXPECT_TRUE(server.Send(AsBytes("* OK")));  // a ticket comes with the first data
    client.Feed({reinterpret_cast<const char*>(wire.outgoing.data()), wire.outgoing.size()});
    EXPECT_EQ(client.Read(), "* OK");
    const Facts facts = server.facts();
    return std::string(facts.resumed ? "resumed " : "full ") + std::string(Name(facts.ticket));
  }

  Folder folder;
  RawClient client;
};

TEST_P(Tickets, AreResumedByWhoHasTheSameFile) {
  const auto file = folder.Write("keys", Hex(1));
  const auto one = Context(*TicketKeys::Load(file, hours(1)));
  const auto other = Context(*TicketKeys::Load(file, hours(1)));
  EXPECT_EQ(Connect(one), "full none");
  if (GetParam() == TLS1_3_VERSION) {  // before, the client goes by a time of its own
    EXPECT_EQ(SSL_SESSION_get_timeout(client.session.get()), 3600U);
  }
  EXPECT_EQ(Connect(other), "resumed current");
  EXPECT_EQ(Connect(one), "resumed current");
  EXPECT_EQ(Connect(Context(TicketKeys::Random(hours(1)))), "full unknown");
}

TEST_P(Tickets, AreNotResumedInAnotherProtocol) {
  const auto keys = TicketKeys::Random(hours(1));
  EXPECT_EQ(Connect(Context(keys, "imap")), "full none");
  EXPECT_EQ(Connect(Context(keys, "pop3")), "full current");
}

TEST_P(Tickets, SurviveTheRotationOfAFile) {
  // Two gateways that read the file one after the other.
  const auto file = folder.Write("keys", Hex(1));
  const auto early = *TicketKeys::Load(file, hours(1));
  const auto late = *TicketKeys::Load(file, hours(1));
  const auto first = Context(early);
  const auto second = Context(late);
  EXPECT_EQ(Connect(first), "full none");
  for (uint8_t newest = 2; newest < 6; ++newest) {
    const std::string keys = Hex(newest - 1) + "\n" + Hex(newest);
    folder.Write("keys", newest == 2 ? keys : Hex(newest - 2) + "\n" + keys);
    ASSERT_EQ(early->Reload(), true);
    EXPECT_TRUE(Connect(first).starts_with("resumed"));
    EXPECT_TRUE(Connect(second).starts_with("resumed"));  // which does not know the newest yet
    ASSERT_EQ(late->Reload(), true);
    EXPECT_TRUE(Connect(second).starts_with("resumed"));
  }
}

TEST_P(Tickets, AreRenewedWhenTheirKeyIsOld) {
  const auto file = folder.Write("keys", Hex(1));
  const auto keys = *TicketKeys::Load(file, hours(1));
  const auto context = Context(keys);
  EXPECT_EQ(Connect(context), "full none");
  folder.Write("keys", Hex(1) + "\n" + Hex(2) + "\n" + Hex(3));
  ASSERT_EQ(keys->Reload(), true);
  EXPECT_EQ(Connect(context), "resumed other");
  EXPECT_EQ(Connect(context), "resumed current");
  folder.Write("keys", Hex(4) + "\n" + Hex(5));  // all that was known is withdrawn
  ASSERT_EQ(keys->Reload(), true);
  EXPECT_EQ(Connect(context), "full unknown");
}

TEST_P(Tickets, OfOwnKeysAreGoodForTheirLifetime) {
  const auto start = TicketKeys::Clock::now();
  const auto keys = TicketKeys::Random(hours(12), start);
  const auto context = Context(keys);
  EXPECT_EQ(Connect(context), "full none");
  EXPECT_FALSE(keys->RotateIfDue(start + hours(12) - seconds(1)));
  EXPECT_EQ(Connect(context), "resumed current");
  const auto ticket = bssl::UpRef(client.session.get());
  EXPECT_TRUE(keys->RotateIfDue(start + hours(12)));
  EXPECT_FALSE(keys->RotateIfDue(start + hours(13)));
  EXPECT_EQ(Connect(context), "resumed other");
  EXPECT_TRUE(keys->RotateIfDue(start + hours(24)));
  client.session = bssl::UpRef(ticket.get());
  EXPECT_EQ(Connect(context), "full unknown");
}

TEST_P(Tickets, ThatWereTamperedWithAreIgnored) {
  const auto context = Context(TicketKeys::Random(hours(1)));
  EXPECT_EQ(Connect(context), "full none");
  const uint8_t* data = nullptr;
  size_t size = 0;
  SSL_SESSION_get0_ticket(client.session.get(), &data, &size);
  ASSERT_GT(size, 48U);
  std::string ticket(reinterpret_cast<const char*>(data), size);
  for (const size_t at : {size_t{0}, size_t{20}, size / 2, size - 1}) {
    std::string bad = ticket;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    SSL_SESSION_set_ticket(client.session.get(), reinterpret_cast<const uint8_t*>(bad.data()),
                           bad.size());
    const auto session = bssl::UpRef(client.session.get());
    EXPECT_EQ(Connect(context), at == 0 ? "full unknown" : "full current");
    client.session = bssl::UpRef(session.get());
  }
}

INSTANTIATE_TEST_SUITE_P(Versions, Tickets, testing::Values(TLS1_2_VERSION, TLS1_3_VERSION),
                         [](const auto& parameters) {
                           return parameters.param == TLS1_3_VERSION ? "Tls13" : "Tls12";
                         });

}  // namespace
}  // namespace gatepost::tls::test
