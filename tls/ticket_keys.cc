// SPDX-License-Identifier: Apache-2.0
#include "tls/ticket_keys.h"

#include <openssl/base64.h>
#include <openssl/rand.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "tls/ticket_ring.h"

namespace gatepost::tls {
namespace {

constexpr size_t kMaxKeys = 64;
constexpr size_t kHexDigits = 2 * TicketKey::kBytes;
constexpr size_t kBase64Characters = (TicketKey::kBytes + 2) / 3 * 4;

constexpr std::string_view kWanted =
    "160 hexadecimal digits, as `openssl rand -hex 80` prints them, or the same 80 bytes in base64";

TicketKey RandomKey() {
  TicketKey key;
  RAND_bytes(key.bytes.data(), key.bytes.size());  // it never fails: the process would end
  return key;
}

int HexValue(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

bool FromHex(std::string_view text, TicketKey* key) {
  if (text.size() != kHexDigits) return false;
  for (size_t i = 0; i < TicketKey::kBytes; ++i) {
    const int high = HexValue(text[2 * i]);
    const int low = HexValue(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    key->bytes[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return true;
}

bool FromBase64(std::string_view text, TicketKey* key) {
  if (text.size() != kBase64Characters) return false;
  std::array<uint8_t, kBase64Characters / 4 * 3> bytes;
  size_t size = 0;
  const bool good =
      EVP_DecodeBase64(bytes.data(), &size, bytes.size(),
                       reinterpret_cast<const uint8_t*>(text.data()), text.size()) == 1 &&
      size == TicketKey::kBytes;
  if (good) std::copy_n(bytes.begin(), size, key->bytes.begin());
  OPENSSL_cleanse(bytes.data(), bytes.size());
  return good;
}

bool SameName(const TicketKey& a, const TicketKey& b) {
  return std::ranges::equal(a.name(), b.name());
}

tl::expected<TicketRing, Error> ReadRing(const std::filesystem::path& file) {
  const auto content = ReadFile(file);
  if (!content) return tl::unexpected(content.error());
  auto ring = ParseTicketKeys(content->text());
  if (!ring) return tl::unexpected(Error{Printable(file.native(), 4096) + ring.error().text});
  return ring;
}

}  // namespace

std::string_view Name(TicketUse use) {
  static constexpr std::array<std::string_view, static_cast<size_t>(TicketUse::kCount)> kNames = {
      "none", "current", "other", "unknown"};
  return kNames[static_cast<size_t>(use)];
}

tl::expected<TicketRing, Error> ParseTicketKeys(std::string_view text) {
  TicketRing ring;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
    if (line.empty() || line.front() == '#') continue;
    const auto refuse = [number](std::string_view problem) {
      return tl::unexpected(Error{":" + std::to_string(number) + ": " + std::string(problem)});
    };
    TicketKey key;
    if (!FromHex(line, &key) && !FromBase64(line, &key)) {
      return refuse("not a ticket key; use " + std::string(kWanted));
    }
    if (std::ranges::any_of(ring.keys, [&](const TicketKey& k) { return SameName(k, key); })) {
      return refuse("this ticket key stands in the file already");
    }
    if (ring.keys.size() == kMaxKeys) return refuse("too many ticket keys; three are enough");
    ring.keys.push_back(key);
  }
  if (ring.keys.empty()) {
    return tl::unexpected(Error{": no ticket key found; use lines of " + std::string(kWanted)});
  }
  ring.sealing = ring.keys.size() == 1 ? 0 : ring.keys.size() - 2;
  return ring;
}

// ---- what a handshake does

int TicketRing::Seal(uint8_t* name, uint8_t* iv, EVP_CIPHER_CTX* cipher, HMAC_CTX* mac) const {
  const TicketKey& key = keys[sealing];
  std::ranges::copy(key.name(), name);
  RAND_bytes(iv, EVP_CIPHER_iv_length(EVP_aes_256_cbc()));
  return EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), nullptr, key.cipher(), iv) == 1 &&
                 HMAC_Init_ex(mac, key.mac(), TicketKey::kMacBytes, EVP_sha256(), nullptr) == 1
             ? 1
             : -1;
}

int TicketRing::Open(const uint8_t* name, const uint8_t* iv, EVP_CIPHER_CTX* cipher, HMAC_CTX* mac,
                     TicketUse* use) const {
  const auto key = std::ranges::find_if(keys, [name](const TicketKey& candidate) {
    return std::ranges::equal(candidate.name(), std::span(name, TicketKey::kNameBytes));
  });
  if (key == keys.end()) {
    *use = TicketUse::kUnknownKey;
    return 0;  // a full handshake
  }
  if (EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), nullptr, key->cipher(), iv) != 1 ||
      HMAC_Init_ex(mac, key->mac(), TicketKey::kMacBytes, EVP_sha256(), nullptr) != 1) {
    return -1;
  }
  const auto index = static_cast<size_t>(key - keys.begin());
  *use = index == sealing ? TicketUse::kCurrentKey : TicketUse::kOtherKey;
  return index < sealing ? 2 : 1;
}

// ---- the keys and their changes

std::shared_ptr<TicketKeys> TicketKeys::Random(std::chrono::seconds lifetime,
                                               Clock::time_point now) {
  std::shared_ptr<TicketKeys> self(new TicketKeys(lifetime));
  self->sealing_since_ = now;
  self->Publish(std::make_shared<const TicketRing>(TicketRing{{RandomKey()}, 0}));
  return self;
}

tl::expected<std::shared_ptr<TicketKeys>, Error> TicketKeys::Load(const std::filesystem::path& file,
                                                                  std::chrono::seconds lifetime) {
  std::shared_ptr<TicketKeys> self(new TicketKeys(lifetime));
  self->file_ = file;
  auto ring = ReadRing(file);
  if (!ring) return tl::unexpected(ring.error());
  self->Publish(std::make_shared<const TicketRing>(std::move(*ring)));
  return self;
}

TicketKeys::~TicketKeys() = default;

// A next key, known before it is used, is for those who share keys: there is none here.
bool TicketKeys::RotateIfDue(Clock::time_point now) {
  if (file_ || now - sealing_since_ < lifetime_) return false;
  sealing_since_ = now;
  const auto before = Snapshot();
  Publish(std::make_shared<const TicketRing>(
      TicketRing{{before->keys[before->sealing], RandomKey()}, 1}));
  return true;
}

tl::expected<bool, Error> TicketKeys::Reload() {
  if (!file_) return false;
  auto ring = ReadRing(*file_);
  if (!ring) return tl::unexpected(ring.error());
  if (ring->keys == Snapshot()->keys) return false;
  Publish(std::make_shared<const TicketRing>(std::move(*ring)));
  return true;
}

size_t TicketKeys::size() const {
  return Snapshot()->keys.size();
}

std::shared_ptr<const TicketRing> TicketKeys::Snapshot() const {
  const std::lock_guard lock(mutex_);
  return ring_;
}

void TicketKeys::Publish(std::shared_ptr<const TicketRing> ring) {
  const std::lock_guard lock(mutex_);
  ring_.swap(ring);
}

}  // namespace gatepost::tls
