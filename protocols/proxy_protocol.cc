// SPDX-License-Identifier: Apache-2.0
#include "protocols/proxy_protocol.h"

#include <algorithm>
#include <utility>

#include "protocols/ip_address.h"

namespace gatepost::protocols {
namespace {

// §2.2
constexpr std::string_view kSignature("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr uint8_t kVersion2Local = 0x20;
constexpr uint8_t kVersion2Proxy = 0x21;
constexpr uint8_t kUnspecified = 0x00;
constexpr uint8_t kTcp4 = 0x11;
constexpr uint8_t kTcp6 = 0x21;
constexpr uint8_t kUnixStream = 0x31;
constexpr size_t kLengthAt = 14;
constexpr size_t kFixedBytes = 16;

// §2.1
constexpr std::string_view kVersion1 = "PROXY ";
constexpr size_t kMaxVersion1Bytes = 107;

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

// Integers of the network's order at the beginning of `bytes`.
size_t ReadUint16(std::string_view bytes) {
  return static_cast<size_t>(static_cast<uint8_t>(bytes[0])) << 8 | static_cast<uint8_t>(bytes[1]);
}
uint32_t ReadUint32(std::string_view bytes) {
  return static_cast<uint32_t>(ReadUint16(bytes) << 16 | ReadUint16(bytes.substr(2)));
}

// ForEachTlv calls take(type, value) for each TLV of `bytes` until it returns false. False: it did,
// or they don't fill `bytes`.
template <typename Take>
bool ForEachTlv(std::string_view bytes, Take take) {
  while (!bytes.empty()) {
    if (bytes.size() < 3) return false;
    const size_t size = ReadUint16(bytes.substr(1));
    if (bytes.size() - 3 < size) return false;
    if (!take(static_cast<uint8_t>(bytes[0]), bytes.substr(3, size))) return false;
    bytes.remove_prefix(3 + size);
  }
  return true;
}

// ReadTls reads the value of the SSL TLV. False: it is malformed.
bool ReadTls(std::string_view value, std::optional<ProxyTls>& out) {
  if (value.size() < 5) return false;
  const auto client = static_cast<uint8_t>(value[0]);
  ProxyTls tls;
  tls.certificate = (client & (kClientCertConnection | kClientCertSession)) != 0;
  tls.resumed = tls.certificate && (client & kClientCertConnection) == 0;
  tls.verified = tls.certificate && ReadUint32(value.substr(1)) == 0;
  const bool sound = ForEachTlv(value.substr(5), [&](uint8_t type, std::string_view text) {
    if (type == kSslVersion) tls.version = text;
    if (type == kSslCommonName) tls.common_name = text;
    if (type == kSslCipher) tls.cipher = text;
    if (type == kSslGroup) tls.group = text;
    return true;
  });
  if ((client & kClientSsl) != 0) out = tls;
  return sound;
}

// ReadTlvs reads what stands behind the addresses; `whole` is the header.
bool ReadTlvs(std::string_view tlvs, std::string_view whole, ProxyHeader& header) {
  bool checked = false;
  return ForEachTlv(tlvs, [&](uint8_t type, std::string_view value) {
    switch (type) {
      case kAlpn:
        header.alpn = value;
        return true;
      case kAuthority:
        header.server_name = value;
        return true;
      case kUniqueId:
        header.session_id = value;
        return value.size() <= kMaxUniqueIdBytes;
      case kSsl:
        return ReadTls(value, header.tls);
      case kCrc32c: {
        if (value.size() != 4 || std::exchange(checked, true)) return false;
        std::string zeroed(whole);
        PutUint32(0, static_cast<size_t>(value.data() - whole.data()), zeroed);
        return Crc32c(zeroed) == ReadUint32(value);
      }
      default:
        return true;
    }
  });
}

ProxyEndpoint ReadEndpoint(std::string_view address, std::string_view port) {
  ProxyEndpoint endpoint;
  if (address.size() == 4) endpoint.address[10] = endpoint.address[11] = 0xff;
  std::copy(address.begin(), address.end(),
            endpoint.address.end() - static_cast<ptrdiff_t>(address.size()));
  endpoint.port = static_cast<uint16_t>(ReadUint16(port));
  return endpoint;
}

using Status = ProxyReading::Status;

ProxyReading ReadVersion2(std::string_view input) {
  ProxyReading reading{.version = 2};
  if (input.size() < kFixedBytes) return reading;
  reading.status = Status::kMalformed;
  const auto command = static_cast<uint8_t>(input[12]);
  const auto kind = static_cast<uint8_t>(input[13]);
  const size_t length = ReadUint16(input.substr(kLengthAt));
  if (command != kVersion2Local && command != kVersion2Proxy) return reading;
  if (kFixedBytes + length > kMaxProxyHeaderBytesRead) return reading;
  const bool local = command == kVersion2Local;
  const size_t width = kind == kTcp4 ? 4 : 16;
  const bool tcp = !local && (kind == kTcp4 || kind == kTcp6);
  // Datagrams carry no mail.
  if (!local && !tcp && kind != kUnspecified && kind != kUnixStream) return reading;
  if (tcp && length < 2 * width + 4) return reading;
  if (input.size() < kFixedBytes + length) {
    reading.status = Status::kNeedInput;
    return reading;
  }
  const std::string_view whole = input.substr(0, kFixedBytes + length);
  std::string_view body = whole.substr(kFixedBytes);
  reading.bytes = whole.size();
  if (!tcp) {
    reading.status = Status::kLocal;  // §2.2: whatever else it says is skipped
    return reading;
  }
  const std::string_view ports = body.substr(2 * width, 4);
  reading.header.source = ReadEndpoint(body.substr(0, width), ports);
  reading.header.destination = ReadEndpoint(body.substr(width, width), ports.substr(2));
  body.remove_prefix(2 * width + 4);
  if (ReadTlvs(body, whole, reading.header)) reading.status = Status::kClient;
  return reading;
}

// ReadVersion1 reads one line, §2.1.
ProxyReading ReadVersion1(std::string_view input) {
  ProxyReading reading{.version = 1};
  const std::string_view line = input.substr(0, kMaxVersion1Bytes);
  const size_t end = line.find_first_of(std::string_view("\0\r\n", 3));
  const bool cut = end == std::string_view::npos ? line.size() < kMaxVersion1Bytes
                                                 : line[end] == '\r' && end + 1 == input.size();
  if (cut && end != kMaxVersion1Bytes - 1) return reading;
  reading.status = Status::kMalformed;
  if (end == std::string_view::npos || line.substr(end, 2) != "\r\n") return reading;
  reading.bytes = end + 2;
  std::string_view rest = line.substr(kVersion1.size(), end - kVersion1.size());
  std::array<std::string_view, 5> words;  // kind, addresses, ports
  size_t count = 0;
  while (count < words.size()) {
    const size_t space = count + 1 == words.size() ? rest.size() : rest.find(' ');
    words[count++] = rest.substr(0, space);
    if (space >= rest.size()) {
      rest = {};
      break;
    }
    rest.remove_prefix(space + 1);
  }
  if (words[0] == "UNKNOWN") {
    reading.status = Status::kLocal;
    return reading;
  }
  if (count < words.size()) return reading;
  const auto endpoint = [&](size_t index, ProxyEndpoint& out) {
    const auto port = ParseDecimal(words[index + 2], 65535);
    if (!port) return false;
    out.port = static_cast<uint16_t>(*port);
    if (words[0] == "TCP6") return ParseIpv6(words[index], out.address);
    out.address[10] = out.address[11] = 0xff;
    return words[0] == "TCP4" && ParseIpv4(words[index], out.address.data() + 12);
  };
  if (endpoint(1, reading.header.source) && endpoint(2, reading.header.destination)) {
    reading.status = Status::kClient;
  }
  return reading;
}

// One of both is where the other begins.
bool Agree(std::string_view a, std::string_view b) {
  const size_t common = std::min(a.size(), b.size());
  return a.substr(0, common) == b.substr(0, common);
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

std::string EncodeProxyV1(const ProxyEndpoint& source, const ProxyEndpoint& destination) {
  const bool v4 = IsV4Mapped(source) && IsV4Mapped(destination);
  std::string out(v4 ? "PROXY TCP4" : "PROXY TCP6");
  for (const ProxyEndpoint* endpoint : {&source, &destination}) {
    for (size_t i = v4 ? 12 : 0; i < endpoint->address.size(); i += v4 ? 1 : 2) {
      out += i == (v4 ? 12 : 0) ? ' ' : v4 ? '.' : ':';
      if (v4) {
        out += std::to_string(endpoint->address[i]);
      } else {
        constexpr std::string_view kDigits = "0123456789abcdef";
        for (const uint8_t byte : {endpoint->address[i], endpoint->address[i + 1]}) {
          out += kDigits[byte >> 4];
          out += kDigits[byte & 15];
        }
      }
    }
  }
  for (const ProxyEndpoint* endpoint : {&source, &destination}) {
    out += " " + std::to_string(endpoint->port);
  }
  return out + "\r\n";
}

std::string EncodeProxyV2Local() {
  std::string out(kSignature);
  AppendByte(kVersion2Local, out);
  AppendByte(kUnspecified, out);
  AppendUint16(0, out);
  return out;
}

ProxyReading ReadProxy(std::string_view input, bool version1, bool version2) {
  if (input.empty()) return {};
  if (version2 && Agree(input, kSignature)) return ReadVersion2(input);
  if (version1 && Agree(input, kVersion1)) return ReadVersion1(input);
  return {.status = Status::kMalformed};
}

size_t ProxyHeaderBytes(std::string_view input) {
  if (!input.starts_with(kSignature)) {
    const size_t end = input.find('\n');
    return !Agree(input, kSignature) && end != std::string_view::npos ? end + 1 : input.size();
  }
  if (input.size() < kFixedBytes) return input.size();
  return std::min(input.size(), kFixedBytes + ReadUint16(input.substr(kLengthAt)));
}

}  // namespace gatepost::protocols
