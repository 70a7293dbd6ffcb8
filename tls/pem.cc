// PEM files and the words for what is in them.
//
// Loading happens at start and at a reload, on a thread that may block; every error names the file.
// SPDX-License-Identifier: Apache-2.0
#include <openssl/mem.h>
#include <openssl/pem.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <memory>
#include <span>

#include "tls/internal.h"

namespace gatepost::tls {
namespace {

constexpr size_t kMaxFileBytes = 4 << 20;
constexpr size_t kMaxHostName = 255;

tl::unexpected<Error> FileError(const std::filesystem::path& file, std::string_view problem) {
  return tl::unexpected(Error{Printable(file.native(), 4096) + ": " + std::string(problem)});
}

bool IsEndOfPem(uint32_t code) {
  return ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
}

// The library asks for a pass phrase only when the key is encrypted.
int NotePassPhraseNeeded(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

// AddressText writes the address in an iPAddress name; empty where its size is none of an address.
std::string AddressText(const ASN1_OCTET_STRING& address) {
  const uint8_t* bytes = ASN1_STRING_get0_data(&address);
  std::string text;
  char part[8];
  if (ASN1_STRING_length(&address) == 4) {
    for (int i = 0; i < 4; ++i) {
      std::snprintf(part, sizeof part, "%s%d", i == 0 ? "" : ".", bytes[i]);
      text += part;
    }
  } else if (ASN1_STRING_length(&address) == 16) {
    for (int i = 0; i < 16; i += 2) {
      std::snprintf(part, sizeof part, "%s%x", i == 0 ? "" : ":", bytes[i] << 8 | bytes[i + 1]);
      text += part;
    }
  }
  return text;
}

}  // namespace

bssl::UniquePtr<BIO> FileBytes::MemoryBio() const {
  return bssl::UniquePtr<BIO>(BIO_new_mem_buf(bytes_.data(), static_cast<int>(bytes_.size())));
}

tl::expected<FileBytes, Error> ReadFile(const std::filesystem::path& file) {
  std::error_code ignored;
  if (std::filesystem::is_directory(file, ignored)) {
    return FileError(file, "cannot read: it is a directory");
  }
  std::unique_ptr<FILE, int (*)(FILE*)> stream(std::fopen(file.c_str(), "rbe"), std::fclose);
  if (!stream) return FileError(file, std::string("cannot read: ") + std::strerror(errno));
  std::setvbuf(stream.get(), nullptr, _IONBF, 0);  // no copy of a key stays in a stream's buffer
  // One buffer of the final size from the start: a growing one would leave copies behind.
  const uintmax_t size = std::filesystem::file_size(file, ignored);
  if (ignored || size > kMaxFileBytes) {
    return FileError(file, "cannot read: not a regular file of at most 4 MiB");
  }
  std::vector<char> bytes(static_cast<size_t>(size));
  bytes.resize(std::fread(bytes.data(), 1, bytes.size(), stream.get()));
  if (std::ferror(stream.get()) != 0) return FileError(file, "cannot read: input/output error");
  return FileBytes(std::move(bytes));
}

namespace {

// ForEachBlock calls take(label, DER) for each PEM block of `file`; an empty string goes on,
// another is what is wrong with the block.
template <typename Take>
tl::expected<void, Error> ForEachBlock(const std::filesystem::path& file, Take take) {
  auto bytes = ReadFile(file);
  if (!bytes) return tl::unexpected(bytes.error());
  bssl::UniquePtr<BIO> bio = bytes->MemoryBio();
  for (;;) {
    char* name = nullptr;
    char* header = nullptr;
    uint8_t* data = nullptr;
    long size = 0;
    if (PEM_read_bio(bio.get(), &name, &header, &data, &size) != 1) break;
    bssl::UniquePtr<char> name_owner(name);
    bssl::UniquePtr<char> header_owner(header);
    bssl::UniquePtr<uint8_t> data_owner(data);
    const std::string problem =
        take(std::string_view(name), std::span<const uint8_t>(data, static_cast<size_t>(size)));
    OPENSSL_cleanse(data, static_cast<size_t>(size));  // a combined file holds the key too
    if (!problem.empty()) return FileError(file, problem);
  }
  // The end of the file is "no start line"; anything else is a broken block.
  const bool at_end = IsEndOfPem(ERR_peek_last_error());
  const std::string problem = TakeLibraryError();
  if (!at_end) return FileError(file, "malformed PEM: " + problem);
  return {};
}

}  // namespace

tl::expected<std::vector<ParsedCertificate>, Error> ReadCertificates(
    const std::filesystem::path& file) {
  std::vector<ParsedCertificate> certificates;
  const auto read = ForEachBlock(file, [&](std::string_view label, std::span<const uint8_t> der) {
    if (label != PEM_STRING_X509 && label != PEM_STRING_X509_OLD) return std::string();
    ParsedCertificate parsed;
    parsed.der.reset(CRYPTO_BUFFER_new(der.data(), der.size(), nullptr));
    parsed.x509.reset(X509_parse_from_buffer(parsed.der.get()));
    if (!parsed.x509) {
      return "certificate " + std::to_string(certificates.size() + 1) +
             " cannot be parsed: " + TakeLibraryError();
    }
    certificates.push_back(std::move(parsed));
    return std::string();
  });
  if (!read) return tl::unexpected(read.error());
  if (certificates.empty()) {
    return FileError(file, "no certificate found (expected -----BEGIN CERTIFICATE-----)");
  }
  return certificates;
}

tl::expected<std::vector<bssl::UniquePtr<X509_CRL>>, Error> ReadCrls(
    const std::filesystem::path& file) {
  std::vector<bssl::UniquePtr<X509_CRL>> crls;
  const auto read = ForEachBlock(file, [&](std::string_view label, std::span<const uint8_t> der) {
    if (label != PEM_STRING_X509_CRL) return std::string();
    const uint8_t* in = der.data();
    bssl::UniquePtr<X509_CRL> crl(d2i_X509_CRL(nullptr, &in, static_cast<long>(der.size())));
    if (!crl || in != der.data() + der.size()) {
      return "CRL " + std::to_string(crls.size() + 1) + " cannot be parsed: " + TakeLibraryError();
    }
    crls.push_back(std::move(crl));
    return std::string();
  });
  if (!read) return tl::unexpected(read.error());
  if (crls.empty()) return FileError(file, "no CRL found (expected -----BEGIN X509 CRL-----)");
  return crls;
}

tl::expected<bssl::UniquePtr<EVP_PKEY>, Error> ReadPrivateKey(const std::filesystem::path& file) {
  auto bytes = ReadFile(file);
  if (!bytes) return tl::unexpected(bytes.error());
  bssl::UniquePtr<BIO> bio = bytes->MemoryBio();
  bool encrypted = false;
  bssl::UniquePtr<EVP_PKEY> key(
      PEM_read_bio_PrivateKey(bio.get(), nullptr, NotePassPhraseNeeded, &encrypted));
  if (key) return key;
  const bool missing = IsEndOfPem(ERR_peek_last_error());
  const std::string problem = TakeLibraryError();
  if (encrypted) {
    return FileError(file,
                     "the private key is encrypted; it must be readable without a pass phrase "
                     "(openssl pkey -in <this file> -out <new file>)");
  }
  if (missing)
    return FileError(file, "no private key found (expected -----BEGIN PRIVATE KEY-----)");
  return FileError(file, "the private key cannot be parsed: " + problem);
}

std::string Printable(std::string_view text, size_t limit) {
  std::string result(text.substr(0, limit));
  std::replace_if(
      result.begin(), result.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  if (text.size() > limit) result += "...";
  return result;
}

std::string HostName(std::string_view name) {
  if (name.ends_with('.')) name.remove_suffix(1);
  if (name.size() > kMaxHostName) return {};
  std::string result;
  result.reserve(name.size());
  for (char c : name) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    const bool allowed = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
                         c == '.' || c == ':';
    if (!allowed) return {};
    result += c;
  }
  if (result.find(':') != std::string::npos) {  // as SubjectNames writes an IPv6 address
    bssl::UniquePtr<ASN1_OCTET_STRING> address(a2i_IPADDRESS(result.c_str()));
    ERR_clear_error();
    return address ? AddressText(*address) : std::string();
  }
  return result;
}

std::string WholeNameText(const X509_NAME* name) {
  bssl::UniquePtr<BIO> bio(BIO_new(BIO_s_mem()));
  const uint8_t* text = nullptr;
  size_t size = 0;
  if (X509_NAME_print_ex(bio.get(), const_cast<X509_NAME*>(name), 0, XN_FLAG_RFC2253) < 0 ||
      BIO_mem_contents(bio.get(), &text, &size) != 1) {
    ERR_clear_error();
    return {};
  }
  return {reinterpret_cast<const char*>(text), size};
}

std::string NameText(const X509_NAME* name) {
  return Printable(WholeNameText(name), 400);
}

std::vector<std::string> SubjectNames(const X509& certificate) {
  bssl::UniquePtr<GENERAL_NAMES> names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr)));
  ERR_clear_error();
  std::vector<std::string> result;
  if (!names) return result;
  for (const GENERAL_NAME* name : names.get()) {
    std::string text;
    if (name->type == GEN_DNS) {
      const auto* data = reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName));
      const std::string_view dns(data, static_cast<size_t>(ASN1_STRING_length(name->d.dNSName)));
      const bool wildcard = dns.starts_with("*.");
      text = HostName(wildcard ? dns.substr(2) : dns);
      if (wildcard && !text.empty()) text.insert(0, "*.");
    } else if (name->type == GEN_IPADD) {
      text = AddressText(*name->d.iPAddress);
    }
    if (!text.empty()) result.push_back(std::move(text));
  }
  return result;
}

std::chrono::system_clock::time_point TimePoint(const ASN1_TIME* time) {
  bssl::UniquePtr<ASN1_TIME> epoch(ASN1_TIME_set(nullptr, 0));
  int days = 0;
  int seconds = 0;
  if (!epoch || ASN1_TIME_diff(&days, &seconds, epoch.get(), time) != 1) {
    ERR_clear_error();
    return {};
  }
  // The clock's nanoseconds end in 2262, certificates "without an end" in 9999 (RFC 5280 §4.1.2.5).
  using Time = std::chrono::system_clock::time_point;
  const auto since_epoch =
      std::chrono::seconds(int64_t{days} * 86'400) + std::chrono::seconds(seconds);
  const auto most = std::chrono::duration_cast<std::chrono::seconds>(Time::duration::max());
  if (since_epoch >= most) return Time::max();
  if (since_epoch <= -most) return Time::min();
  return Time(since_epoch);
}

std::string DateText(std::chrono::system_clock::time_point time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%d", &parts)};
}

bool IsAddress(const std::string& name) {
  bssl::UniquePtr<ASN1_OCTET_STRING> address(a2i_IPADDRESS(name.c_str()));
  ERR_clear_error();
  return address != nullptr;
}

std::string TakeLibraryError() {
  const uint32_t code = ERR_peek_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  std::string text = reason == nullptr ? "unknown error" : reason;
  for (char& c : text) {  // "NO_SHARED_CIPHER" reads better as "no shared cipher"
    if (c == '_') c = ' ';
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

Error LibraryError(std::string_view doing) {
  return {std::string(doing) + " failed: " + TakeLibraryError()};
}

}  // namespace gatepost::tls
