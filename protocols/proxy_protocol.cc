// SPDX-License-Identifier: Apache-2.0
#include "protocols/proxy_protocol.h"

#include <algorithm>

namespace gatepost::protocols {
namespace {

// §2.2
constexpr std::string_view kSignature("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr uint8_t kVersion2Local = 0x20;
constexpr uint8_t kVersion2Proxy = 0x21;
constexpr uint8_t kUnspecified = 0x00;
constexpr uint8_t kTcp4 = 0x11;
constexpr uint8_t kTcp6 = 0x21;
constexpr size_t kLengthAt = 14;

// §2.2.1 to §2.2.7
constexpr uint8_t kAlpn = 0x01;
constexpr uint8_t kAuthority = 0x02;
constexpr uint8_t kCrc32c = 0x03;
constexpr uint8_t kUniqueId = 0x05;
constexpr uint8_t kSsl = 0x20;
constexpr uint8_t kSslVersion = 0x21;
constexpr uint8_t kSslCommonName = 0x22;
constexpr uint8_t kSslCipher = 0x23;
constexpr uint8_t kSslGroup = 0x26;
constexpr uint8_t kClientSsl = 0x01;
constexpr uint8_t kClientCertConnection = 0x02;
constexpr uint8_t kClientCertSession = 0x04;
constexpr size_t kMaxUniqueIdBytes = 128;
constexpr size_t kMaxCommonNameBytes = 255;  // longer ones are not told

void AppendByte(uint8_t byte, std::string& out) {
  out += static_cast<char>(byte);
}
void AppendUint16(size_t value, std::string& out) {
  AppendByte(static_cast<uint8_t>(value >> 8), out);
  AppendByte(static_cast<uint8_t>(value), out);
}
void PutUint32(uint32_t value, size_t at, std::string& out) {
  for (size_t i = 0; i < 4; ++i) out[at + i] = static_cast<char>(value >> (24 - 8 * i));
}

// AppendTlv appends type, length and value, unless it is empty or there is no room for it.
void AppendTlv(uint8_t type, std::string_view value, std::string& out) {
  if (value.empty() || out.size() + 3 + value.size() > kMaxProxyHeaderBytes) return;
  AppendByte(type, out);
  AppendUint16(value.size(), out);
  out += value;
}

bool IsV4Mapped(const ProxyEndpoint& endpoint) {
  const auto& bytes = endpoint.address;
  return std::all_of(bytes.begin(), bytes.begin() + 10, [](uint8_t byte) { return byte == 0; }) &&
         bytes[10] == 0xff && bytes[11] == 0xff;
}

void AppendAddress(const ProxyEndpoint& endpoint, size_t bytes, std::string& out) {
  out.append(endpoint.address.end() - static_cast<ptrdiff_t>(bytes), endpoint.address.end());
}

// §2.2.6: client, verify, sub-TLVs.
std::string SslValue(const ProxyTls& tls) {
  uint8_t client = kClientSsl;
  if (tls.certificate) client |= kClientCertSession;
  if (tls.certificate && !tls.resumed) client |= kClientCertConnection;
  std::string value;
  AppendByte(client, value);
  value.append({0, 0, 0, static_cast<char>(tls.certificate && tls.verified ? 0 : 1)});
  AppendTlv(kSslVersion, tls.version, value);
  if (tls.verified && tls.common_name.size() <= kMaxCommonNameBytes) {
    AppendTlv(kSslCommonName, tls.common_name, value);
  }
  AppendTlv(kSslCipher, tls.cipher, value);
  AppendTlv(kSslGroup, tls.group, value);
  return value;
}

// CRC-32C (Castagnoli), RFC 3720 §12.1 and appendix B.4.
uint32_t Crc32c(std::string_view bytes) {
  uint32_t crc = 0xFFFFFFFF;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82F63B78 : 0);
  }
  return ~crc;
}

}  // namespace

std::string EncodeProxyV2(const ProxyHeader& header) {
  std::string out(kSignature);
  const bool v4 = IsV4Mapped(header.source) && IsV4Mapped(header.destination);
  AppendByte(kVersion2Proxy, out);
  AppendByte(v4 ? kTcp4 : kTcp6, out);
  AppendUint16(0, out);  // the length, below
  AppendAddress(header.source, v4 ? 4 : 16, out);
  AppendAddress(header.destination, v4 ? 4 : 16, out);
  AppendUint16(header.source.port, out);
  AppendUint16(header.destination.port, out);
  AppendTlv(kCrc32c, std::string_view("\0\0\0\0", 4), out);
  const size_t crc_at = out.size() - 4;
  if (header.tls) AppendTlv(kSsl, SslValue(*header.tls), out);
  AppendTlv(kUniqueId, header.session_id.substr(0, kMaxUniqueIdBytes), out);
  AppendTlv(kAlpn, header.alpn, out);
  AppendTlv(kAuthority, header.server_name, out);
  const size_t length = out.size() - kLengthAt - 2;
  out[kLengthAt] = static_cast<char>(length >> 8);
  out[kLengthAt + 1] = static_cast<char>(length);
  PutUint32(Crc32c(out), crc_at, out);
  return out;
}

std::string EncodeProxyV2Local() {
  std::string out(kSignature);
  AppendByte(kVersion2Local, out);
  AppendByte(kUnspecified, out);
  AppendUint16(0, out);
  return out;
}

}  // namespace gatepost::protocols
