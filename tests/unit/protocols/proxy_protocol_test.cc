// The PROXY protocol's header, byte for byte against what another program made of the document.
// SPDX-License-Identifier: Apache-2.0
#include "protocols/proxy_protocol.h"

#include <gtest/gtest.h>

#include <string>

namespace gatepost::protocols {
namespace {

std::string Hex(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) {
    constexpr char kDigits[] = "0123456789abcdef";
    text += kDigits[static_cast<unsigned char>(c) >> 4];
    text += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return text;
}

ProxyEndpoint V4(std::array<uint8_t, 4> address, uint16_t port) {
  return {
      {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, address[0], address[1], address[2], address[3]},
      port};
}
ProxyEndpoint V6(uint8_t last, uint16_t port) {
  return {{0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last}, port};
}

TEST(ProxyProtocol, WritesIpv4WithItsChecksum) {
  ProxyHeader header;
  header.source = V4({192, 0, 2, 7}, 49152);
  header.destination = V4({198, 51, 100, 1}, 143);
  EXPECT_EQ(Hex(EncodeProxyV2(header)),
            "0d0a0d0a000d0a515549540a21110013c0000207c6336401c000008f0300048c078f33");
}

TEST(ProxyProtocol, WritesIpv6AndAllThatIsKnown) {
  ProxyHeader header;
  header.source = V6(7, 1024);
  header.destination = V6(1, 993);
  header.alpn = "imap";
  header.server_name = "mail.example.org";
  header.session_id = "session-1";
  header.tls = ProxyTls{.version = "TLSv1.3",
                        .cipher = "TLS_AES_128_GCM_SHA256",
                        .group = "X25519",
                        .certificate = true,
                        .verified = true,
                        .common_name = "alice"};
  EXPECT_EQ(Hex(EncodeProxyV2(header)),
            "0d0a0d0a000d0a515549540a2121008d20010db800000000000000000000000720010db800000000000000"
            "0000000001040003e10300049ff9bd092000390700000000210007544c5376312e33220005616c69636523"
            "0016544c535f4145535f3132385f47434d5f534841323536260006583235353139"
            "05000973657373696f6e2d31010004696d61700200106d61696c2e6578616d706c652e6f7267");
}

TEST(ProxyProtocol, MixedFamiliesBecomeIpv6) {
  ProxyHeader header;
  header.source = V4({192, 0, 2, 7}, 1);
  header.destination = V6(1, 2);
  EXPECT_EQ(Hex(EncodeProxyV2(header)),
            "0d0a0d0a000d0a515549540a2121002b00000000000000000000ffffc000020720010db800000000000000"
            "00000000010001000203000404ddba86");
}

TEST(ProxyProtocol, SaysOfACertificateWhatIsTrue) {
  const auto facts = [](ProxyTls tls) {
    ProxyHeader header;
    header.source = header.destination = V4({127, 0, 0, 1}, 1);
    tls.common_name = "alice";
    header.tls = tls;
    const std::string text = EncodeProxyV2(header);
    // Behind 16 bytes, the addresses, the checksum, and the TLV's head.
    return Hex(text.substr(16 + 12 + 7 + 3, 5)) +
           (text.find("alice") == std::string::npos ? "" : " alice");
  };
  EXPECT_EQ(facts({}), "0100000001");
  EXPECT_EQ(facts({.certificate = true}), "0700000001");
  EXPECT_EQ(facts({.certificate = true, .verified = true}), "0700000000 alice");
  EXPECT_EQ(facts({.certificate = true, .resumed = true, .verified = true}), "0500000000 alice");
}

TEST(ProxyProtocol, IsNeverLongerThanPostfixReads) {
  const std::string name(250, 'n');
  ProxyHeader header;
  header.source = header.destination = V6(1, 1);
  header.alpn = "imap";
  header.server_name = name;
  header.session_id = name;
  header.tls = ProxyTls{.version = "TLSv1.3",
                        .cipher = "TLS_AES_128_GCM_SHA256",
                        .group = "X25519MLKEM768",
                        .certificate = true,
                        .verified = true,
                        .common_name = name};
  std::string text = EncodeProxyV2(header);
  EXPECT_LE(text.size(), kMaxProxyHeaderBytes);
  EXPECT_EQ(static_cast<unsigned char>(text[14]) * 256U + static_cast<unsigned char>(text[15]),
            text.size() - 16);
  EXPECT_NE(text.find("imap"), std::string::npos);
  EXPECT_NE(text.find(name), std::string::npos);                       // the common name
  EXPECT_EQ(text.find(name, text.find(name) + 1), std::string::npos);  // not the server's
  header.tls->common_name = std::string_view();
  header.session_id = "id";
  text = EncodeProxyV2(header);
  EXPECT_NE(text.find(name), std::string::npos);  // the server's
  const std::string endless(60000, 'x');
  header.tls->common_name = header.server_name = header.session_id = header.alpn = endless;
  EXPECT_LE(EncodeProxyV2(header).size(), kMaxProxyHeaderBytes);
}

TEST(ProxyProtocol, SaysNothingForAConnectionOfOurOwn) {
  EXPECT_EQ(Hex(EncodeProxyV2Local()), "0d0a0d0a000d0a515549540a20000000");
}

}  // namespace
}  // namespace gatepost::protocols
