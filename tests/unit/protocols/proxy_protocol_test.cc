// The PROXY protocol's header, byte for byte against what another program made of the document.
// SPDX-License-Identifier: Apache-2.0
#include "protocols/proxy_protocol.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

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

using Status = ProxyReading::Status;

std::string Text(const ProxyEndpoint& endpoint) {
  std::string text;
  for (const uint8_t byte : endpoint.address) text += static_cast<char>(byte);
  return Hex(text) + ":" + std::to_string(endpoint.port);
}

// Reads `input` with anything behind it, and checks that no beginning of it says otherwise.
ProxyReading Read(std::string_view input) {
  static std::string with_more;  // the views of what is returned point into it
  with_more = std::string(input) + "a NOOP\r\n";
  const ProxyReading reading = ReadProxy(with_more, true, true);
  for (size_t i = 0; i < input.size(); ++i) {
    const Status status = ReadProxy(input.substr(0, i), true, true).status;
    EXPECT_TRUE(status == Status::kNeedInput ||
                (status == Status::kMalformed && reading.status == Status::kMalformed))
        << i;
    if (reading.status != Status::kMalformed) {
      EXPECT_EQ(ProxyHeaderBytes(input.substr(0, i)), i);
    }
  }
  if (reading.status != Status::kMalformed) {
    EXPECT_EQ(reading.bytes, input.size());
    EXPECT_EQ(ProxyHeaderBytes(with_more), input.size());
  }
  return reading;
}

// What is read of a header of ours makes the same header again.
TEST(ProxyProtocol, ReadsWhatItWrites) {
  std::vector<ProxyHeader> headers(4);
  headers[0].source = V4({192, 0, 2, 7}, 49152);
  headers[0].destination = V4({198, 51, 100, 1}, 143);
  headers[1].source = V6(7, 1024);
  headers[1].destination = V6(1, 993);
  headers[1].tls = ProxyTls{.version = "TLSv1.3",
                            .cipher = "TLS_AES_128_GCM_SHA256",
                            .group = "X25519",
                            .certificate = true,
                            .verified = true,
                            .common_name = "alice"};
  headers[1].alpn = "imap";
  headers[1].server_name = "mail.example.org";
  headers[1].session_id = "session-1";
  headers[2].source = V4({192, 0, 2, 7}, 1);
  headers[2].destination = V6(1, 2);
  headers[2].tls = ProxyTls{.certificate = true, .resumed = true};
  headers[3].tls = ProxyTls{};
  for (const ProxyHeader& header : headers) {
    const std::string written = EncodeProxyV2(header);
    const ProxyReading reading = Read(written);
    EXPECT_EQ(reading.status, Status::kClient);
    EXPECT_EQ(reading.version, 2U);
    EXPECT_EQ(Hex(EncodeProxyV2(reading.header)), Hex(written));
  }
  EXPECT_EQ(Read(EncodeProxyV2Local()).status, Status::kLocal);
}

TEST(ProxyProtocol, ReadsVersion1) {
  ProxyReading reading = Read("PROXY TCP4 192.0.2.7 198.51.100.1 49152 143\r\n");
  EXPECT_EQ(reading.status, Status::kClient);
  EXPECT_EQ(reading.version, 1U);
  EXPECT_EQ(Text(reading.header.source), "00000000000000000000ffffc0000207:49152");
  EXPECT_EQ(Text(reading.header.destination), "00000000000000000000ffffc6336401:143");
  reading = Read("PROXY TCP6 2001:DB8::7 ::ffff:192.0.2.1 0 65535\r\n");
  EXPECT_EQ(Text(reading.header.source), "20010db8000000000000000000000007:0");
  EXPECT_EQ(Text(reading.header.destination), "00000000000000000000ffffc0000201:65535");
  const std::string full = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
  EXPECT_EQ(Read("PROXY TCP6 " + full + " " + full + " 65535 65535\r\n").status, Status::kClient);
  EXPECT_EQ(Read("PROXY UNKNOWN\r\n").status, Status::kLocal);
  EXPECT_EQ(Read("PROXY UNKNOWN " + full + " " + full + " 65535 65535\r\n").status, Status::kLocal);
}

TEST(ProxyProtocol, RefusesWhatIsNotVersion1) {
  for (const std::string_view line : {
           "PROXY TCP4 192.0.2.7 198.51.100.1 49152 143\n",
           "PROXY TCP4 192.0.2.7 198.51.100.1 49152\r\n",
           "PROXY TCP4 192.0.2.7 198.51.100.1 49152 143 \r\n",
           "PROXY TCP4  192.0.2.7 198.51.100.1 49152 143\r\n",
           "PROXY TCP4 192.0.2.7 198.51.100.1 49152 65536\r\n",
           "PROXY TCP4 192.0.2.7 198.51.100.1 +1 143\r\n",
           "PROXY TCP4 192.0.2.07 198.51.100.1 1 143\r\n",
           "PROXY TCP4 192.0.2 198.51.100.1 1 143\r\n",
           "PROXY TCP4 192.0.2.7.1 198.51.100.1 1 143\r\n",
           "PROXY TCP4 192.0.2.256 198.51.100.1 1 143\r\n",
           "PROXY TCP4 ::1 ::1 1 143\r\n",
           "PROXY TCP6 192.0.2.7 198.51.100.1 1 143\r\n",
           "PROXY TCP6 ::1 :::1 1 143\r\n",
           "PROXY TCP6 ::1 1::2::3 1 143\r\n",
           "PROXY TCP6 ::1 1:2:3:4:5:6:7 1 143\r\n",
           "PROXY TCP6 ::1 1:2:3:4:5:6:7:8:9 1 143\r\n",
           "PROXY TCP6 ::1 1:2:3:4:5:6:7:8:: 1 143\r\n",
           "PROXY TCP6 ::1 12345:: 1 143\r\n",
           "PROXY TCP6 ::1 fe80::1%eth0 1 143\r\n",
           "PROXY TCP6 ::1 1: 1 143\r\n",
           "PROXY UDP4 192.0.2.7 198.51.100.1 1 143\r\n",
           "PROXY \r\n",
           "PROXY UNKNOWN\r\r\n",
           "proxy TCP4 192.0.2.7 198.51.100.1 1 143\r\n",
           "GET / HTTP/1.1\r\n",
           "\r\n",
           "\x16\x03\x01",
       }) {
    EXPECT_EQ(Read(line).status, Status::kMalformed) << line;
  }
  EXPECT_EQ(Read("PROXY UNKNOWN " + std::string(92, 'x') + "\r\n").status, Status::kMalformed);
  EXPECT_EQ(Read("PROXY UNKNOWN " + std::string(91, 'x') + "\r\n").status, Status::kLocal);
}

TEST(ProxyProtocol, TakesTheAcceptedVersionAlone) {
  const std::string one = "PROXY UNKNOWN\r\n";
  const std::string two = EncodeProxyV2Local();
  EXPECT_EQ(ReadProxy(one, false, true).status, Status::kMalformed);
  EXPECT_EQ(ReadProxy(two, true, false).status, Status::kMalformed);
  EXPECT_EQ(ReadProxy(one, true, false).status, Status::kLocal);
  EXPECT_EQ(ReadProxy(two, false, true).status, Status::kLocal);
}

// A header of version 2 with the given command and kind.
std::string Version2(uint8_t command, uint8_t kind, std::string_view body) {
  std::string text(EncodeProxyV2Local());
  text[12] = static_cast<char>(command);
  text[13] = static_cast<char>(kind);
  text[14] = static_cast<char>(body.size() >> 8);
  text[15] = static_cast<char>(body.size());
  return text.append(body);
}

TEST(ProxyProtocol, ReadsOfVersion2WhatItKnowsAndSkipsTheRest) {
  const std::string v4("\xc0\0\2\7\xc6\x33\x64\1\xc0\0\0\x8f", 12);
  EXPECT_EQ(Read(Version2(0x21, 0x11, v4)).status, Status::kClient);
  const std::string more("\4\0\2xx\xE0\0\1x\5\0\1i", 13);
  EXPECT_EQ(Read(Version2(0x21, 0x11, v4 + more)).header.session_id, "i");
  // Of no use to us, and yet no lies.
  EXPECT_EQ(Read(Version2(0x21, 0x00, "")).status, Status::kLocal);
  EXPECT_EQ(Read(Version2(0x21, 0x31, std::string(216, 'x'))).status, Status::kLocal);
  EXPECT_EQ(Read(Version2(0x20, 0x11, v4)).status, Status::kLocal);
  EXPECT_EQ(Read(Version2(0x20, 0x77, std::string(4080, 'x'))).status, Status::kLocal);
  // Lies.
  EXPECT_EQ(Read(Version2(0x21, 0x11, v4.substr(1))).status, Status::kMalformed);
  EXPECT_EQ(Read(Version2(0x21, 0x21, v4)).status, Status::kMalformed);
  EXPECT_EQ(Read(Version2(0x21, 0x12, v4)).status, Status::kMalformed);
  EXPECT_EQ(Read(Version2(0x22, 0x11, v4)).status, Status::kMalformed);
  EXPECT_EQ(Read(Version2(0x11, 0x11, v4)).status, Status::kMalformed);
  EXPECT_EQ(Read(Version2(0x21, 0x11, v4 + std::string("\4\0", 2))).status, Status::kMalformed);
  EXPECT_EQ(Read(Version2(0x21, 0x11, v4 + std::string("\4\0\2x", 4))).status, Status::kMalformed);
  EXPECT_EQ(Read(Version2(0x21, 0x11, v4 + std::string("\x20\0\4\1\0\0\0", 7))).status,
            Status::kMalformed);
  EXPECT_EQ(Read(Version2(0x20, 0x00, std::string(4081, 'x'))).status, Status::kMalformed);
  EXPECT_EQ(Read(Version2(0x21, 0x11, v4 + std::string("\3\0\0", 3))).status, Status::kMalformed);
}

TEST(ProxyProtocol, BelievesNoHeaderWithAWrongChecksum) {
  ProxyHeader header;
  header.source = header.destination = V4({192, 0, 2, 7}, 49152);
  header.session_id = "session-1";
  const std::string good = EncodeProxyV2(header);
  for (size_t i = 16; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    if (i >= 28 && i < 31) continue;  // the checksum's own type and length
    EXPECT_EQ(ReadProxy(bad, true, true).status, Status::kMalformed) << i;
  }
}

TEST(ProxyProtocol, WritesVersion1) {
  const std::string v4 = EncodeProxyV1(V4({192, 0, 2, 7}, 49152), V4({198, 51, 100, 1}, 143));
  EXPECT_EQ(v4, "PROXY TCP4 192.0.2.7 198.51.100.1 49152 143\r\n");
  const std::string v6 = EncodeProxyV1(V6(7, 0), V6(1, 65535));
  EXPECT_EQ(v6,
            "PROXY TCP6 2001:0db8:0000:0000:0000:0000:0000:0007 "
            "2001:0db8:0000:0000:0000:0000:0000:0001 0 65535\r\n");
  const std::string mixed = EncodeProxyV1(V4({192, 0, 2, 7}, 1), V6(1, 2));
  EXPECT_EQ(mixed,
            "PROXY TCP6 0000:0000:0000:0000:0000:ffff:c000:0207 "
            "2001:0db8:0000:0000:0000:0000:0000:0001 1 2\r\n");
  for (const std::string& line : {v4, v6, mixed}) {
    const ProxyReading reading = Read(line);
    EXPECT_EQ(reading.status, Status::kClient);
    EXPECT_EQ(EncodeProxyV1(reading.header.source, reading.header.destination), line);
  }
}

TEST(ProxyProtocol, SaysNothingForAConnectionOfOurOwn) {
  EXPECT_EQ(Hex(EncodeProxyV2Local()), "0d0a0d0a000d0a515549540a20000000");
}

}  // namespace
}  // namespace gatepost::protocols
