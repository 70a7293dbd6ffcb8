// OCSP responses that are stapled, and those that are not, with which words.
// SPDX-License-Identifier: Apache-2.0
#include "tls/ocsp.h"

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>

#include "tests/unit/tls/fixtures.h"
#include "tests/unit/tls/raw_client.h"

namespace gatepost::tls::test {
namespace {

using Clock = std::chrono::system_clock;

constexpr unsigned kContext0 = CBS_ASN1_CONSTRUCTED | CBS_ASN1_CONTEXT_SPECIFIC | 0;
constexpr unsigned kGood = CBS_ASN1_CONTEXT_SPECIFIC | 0;
constexpr unsigned kRevoked = CBS_ASN1_CONSTRUCTED | CBS_ASN1_CONTEXT_SPECIFIC | 1;
constexpr unsigned kUnknown = CBS_ASN1_CONTEXT_SPECIFIC | 2;

// Adds an element with what `fill` puts into it.
void Add(CBB* out, unsigned tag, const std::function<void(CBB*)>& fill = {}) {
  CBB element;
  ASSERT_EQ(CBB_add_asn1(out, &element, tag), 1);
  if (fill) fill(&element);
  ASSERT_EQ(CBB_flush(out), 1);
}

void AddBytes(CBB* out, unsigned tag, std::string_view bytes) {
  Add(out, tag, [bytes](CBB* element) {
    CBB_add_bytes(element, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  });
}

void AddTime(CBB* out, Clock::time_point time) {
  const std::time_t seconds = Clock::to_time_t(time);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  AddBytes(out, CBS_ASN1_GENERALIZEDTIME,
           {text, std::strftime(text, sizeof text, "%Y%m%d%H%M%SZ", &parts)});
}

struct Answer {
  unsigned state = kGood;
  std::optional<Clock::time_point> next_update = Clock::now() + hours(12);
  char status = 0;
};

// A response of which only what clients verify is missing, about `certificate`.
std::string Response(const X509& certificate, const Answer& answer = {}) {
  uint8_t* serial = nullptr;
  const int serial_size =
      i2d_ASN1_INTEGER(const_cast<ASN1_INTEGER*>(X509_get0_serialNumber(&certificate)), &serial);
  const bssl::UniquePtr<uint8_t> owner(serial);
  bssl::ScopedCBB cbb;
  CBB_init(cbb.get(), 512);
  const auto single = [&](CBB* out) {
    Add(out, CBS_ASN1_SEQUENCE, [&](CBB* id) {
      Add(id, CBS_ASN1_SEQUENCE);
      AddBytes(id, CBS_ASN1_OCTETSTRING, "name");
      AddBytes(id, CBS_ASN1_OCTETSTRING, "key");
      CBB_add_bytes(id, serial, static_cast<size_t>(serial_size));
    });
    Add(out, answer.state);
    AddTime(out, Clock::now() - hours(1));
    if (answer.next_update) {
      Add(out, kContext0, [&](CBB* next) { AddTime(next, *answer.next_update); });
    }
  };
  const auto basic = [&](CBB* out) {
    Add(out, CBS_ASN1_SEQUENCE, [&](CBB* data) {
      AddBytes(data, CBS_ASN1_CONSTRUCTED | CBS_ASN1_CONTEXT_SPECIFIC | 2, "");  // the responder
      AddTime(data, Clock::now() - hours(1));
      Add(data, CBS_ASN1_SEQUENCE,
          [&](CBB* responses) { Add(responses, CBS_ASN1_SEQUENCE, single); });
    });
  };
  Add(cbb.get(), CBS_ASN1_SEQUENCE, [&](CBB* response) {
    AddBytes(response, CBS_ASN1_ENUMERATED, std::string(1, answer.status));
    if (answer.status != 0) return;
    Add(response, kContext0, [&](CBB* bytes) {
      Add(bytes, CBS_ASN1_SEQUENCE, [&](CBB* typed) {
        AddBytes(typed, CBS_ASN1_OBJECT, "\x2b\x06\x01\x05\x05\x07\x30\x01\x01");
        Add(typed, CBS_ASN1_OCTETSTRING,
            [&](CBB* octets) { Add(octets, CBS_ASN1_SEQUENCE, basic); });
      });
    });
  });
  return {reinterpret_cast<const char*>(CBB_data(cbb.get())), CBB_len(cbb.get())};
}

std::string Verdict(const std::string& der, const X509& certificate) {
  const auto until = CheckOcspResponse(AsBytes(der), certificate);
  EXPECT_EQ(ERR_peek_error(), 0u);
  return until ? DateText(*until) : until.error().text;
}

TEST(OcspResponse, SaysUntilWhenItIsGood) {
  const Identity leaf = TestAuthority().IssueFor({"a.example"});
  const auto until = Clock::now() + hours(60);
  EXPECT_EQ(Verdict(Response(*leaf.certificate, {.next_update = until}), *leaf.certificate),
            DateText(until));
  const auto endless = CheckOcspResponse(AsBytes(Response(*leaf.certificate, {.next_update = {}})),
                                         *leaf.certificate);
  ASSERT_TRUE(endless);
  EXPECT_EQ(*endless, Clock::time_point::max());
}

TEST(OcspResponse, IsRefusedWithWords) {
  const Identity leaf = TestAuthority().IssueFor({"a.example"});
  const Identity other = TestAuthority().IssueFor({"b.example"});
  const X509& certificate = *leaf.certificate;
  EXPECT_EQ(Verdict(Response(certificate, {.state = kRevoked}), certificate),
            "says that the certificate is revoked");
  EXPECT_EQ(Verdict(Response(certificate, {.state = kUnknown}), certificate),
            "does not know the certificate");
  EXPECT_EQ(Verdict(Response(*other.certificate), certificate), "is about another certificate");
  EXPECT_EQ(Verdict(Response(certificate, {.status = 3}), certificate),
            "holds no answer: the responder said \"tryLater\"");
  EXPECT_EQ(Verdict("-----BEGIN", certificate), "is no OCSP response (DER, RFC 6960)");
  EXPECT_EQ(Verdict("", certificate), "is no OCSP response (DER, RFC 6960)");
}

TEST(OcspResponse, IsNeverReadBeyondItsEnd) {
  const Identity leaf = TestAuthority().IssueFor({"a.example"});
  const std::string whole = Response(*leaf.certificate);
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(Verdict(whole.substr(0, size), *leaf.certificate),
              "is no OCSP response (DER, RFC 6960)")
        << size;
  }
  EXPECT_EQ(Verdict(whole + "x", *leaf.certificate), "is no OCSP response (DER, RFC 6960)");
}

class Stapling : public testing::Test {
 protected:
  Stapling() { files = folder.WritePair("a", leaf); }

  // What a client that asks for a response gets.
  std::string Stapled(const std::shared_ptr<const Certificate>& certificate, bool asks = true) {
    const auto context = MakeServer(CertificateStore::Make({certificate}));
    Transport wire;
    Channel server(wire, context);
    RawClient client;
    if (asks) SSL_CTX_enable_ocsp_stapling(client.context());
    client.Connect("a.example");
    EXPECT_TRUE(client.Handshake(server, wire)) << client.error;
    const uint8_t* data = nullptr;
    size_t size = 0;
    SSL_get0_ocsp_response(client.ssl(), &data, &size);
    return {reinterpret_cast<const char*>(data), size};
  }

  const Folder folder;
  const Identity leaf = TestAuthority().IssueFor({"a.example"});
  CertificateFiles files;
  CertificateLoader loader;
};

TEST_F(Stapling, IsForThoseWhoAsk) {
  const std::string response = Response(*leaf.certificate);
  folder.Write("a.crt.ocsp", response);
  const auto certificate = *loader.Load(files);
  EXPECT_EQ(certificate->info().staple_problem, "");
  EXPECT_TRUE(certificate->info().stapled_until);
  EXPECT_EQ(Stapled(certificate), response);
  EXPECT_EQ(Stapled(certificate, false), "");
}

TEST_F(Stapling, IsLeftOutWhereTheResponseIsNotGood) {
  EXPECT_EQ(Stapled(*loader.Load(files)), "");
  const auto file = folder.Write("a.crt.ocsp", Response(*leaf.certificate, {.state = kRevoked}));
  auto certificate = *loader.Load(files);
  EXPECT_EQ(certificate->info().staple_problem,
            file.string() + " says that the certificate is revoked");
  EXPECT_EQ(Stapled(certificate), "");
  const auto past = Clock::now() - hours(48);
  folder.Write("a.crt.ocsp", Response(*leaf.certificate, {.next_update = past}));
  certificate = *loader.Load(files);
  EXPECT_EQ(certificate->info().staple_problem, file.string() + " expired on " + DateText(past));
  EXPECT_EQ(Stapled(certificate), "");
}

TEST_F(Stapling, EndsWithTheResponse) {
  using std::chrono::minutes;
  const auto now = Clock::now();
  folder.Write("a.crt.ocsp", Response(*leaf.certificate, {.next_update = now - minutes(10)}));
  const auto certificate = *loader.Load(files, now - minutes(20));  // while it was good
  EXPECT_TRUE(certificate->info().stapled_until) << certificate->info().staple_problem;
  EXPECT_EQ(Stapled(certificate), "");
}

TEST_F(Stapling, MakesAnotherCertificate) {
  const auto bare = *loader.Load(files);
  folder.Write("a.crt.ocsp", Response(*leaf.certificate));
  const auto with = *loader.Load(files);
  EXPECT_FALSE(bare->SameAs(*with));
  EXPECT_TRUE(with->SameAs(**loader.Load(files)));
}

}  // namespace
}  // namespace gatepost::tls::test
