// Making contexts, and what the library asks of a server context during a handshake.
//
// The callbacks run on the worker's thread whose Channel is in its handshake; they only read.
// SPDX-License-Identifier: Apache-2.0
#include "tls/context.h"

#include <openssl/sha.h>

#include <algorithm>
#include <array>

#include "tls/algorithms.h"
#include "tls/certificate_store.h"
#include "tls/channel.h"
#include "tls/internal.h"
#include "tls/ticket_keys.h"
#include "tls/ticket_ring.h"

namespace gatepost::tls {
namespace {

// An unknown client must not cost us the verification of a long chain.
constexpr size_t kMaxClientChainBytes = size_t{32} << 10;

// Ids of TLS extensions, RFC 8446 §4.2.
constexpr uint16_t kStatusRequest = 5;
constexpr uint16_t kSupportedGroups = 10;
constexpr uint16_t kSignatureAlgorithms = 13;
constexpr uint16_t kSupportedVersions = 43;

// A list of its own that shares the bytes; null: out of memory.
bssl::UniquePtr<STACK_OF(CRYPTO_BUFFER)> Copy(const STACK_OF(CRYPTO_BUFFER) * list) {
  bssl::UniquePtr<STACK_OF(CRYPTO_BUFFER)> copy(sk_CRYPTO_BUFFER_new_null());
  for (size_t i = 0; copy && i < sk_CRYPTO_BUFFER_num(list); ++i) {
    if (!bssl::PushToStack(copy.get(), bssl::UpRef(sk_CRYPTO_BUFFER_value(list, i))))
      return nullptr;
  }
  return copy;
}

// Calls `predicate` with each 16-bit number of a vector in an extension's body, whose length takes
// `length_bytes`; returns whether one of them satisfied it.
template <typename Predicate>
bool AnyInExtension(const SSL_CLIENT_HELLO* hello, uint16_t extension, int length_bytes,
                    bool if_absent, Predicate predicate) {
  const uint8_t* data = nullptr;
  size_t size = 0;
  if (SSL_early_callback_ctx_extension_get(hello, extension, &data, &size) != 1) return if_absent;
  CBS body;
  CBS list;
  CBS_init(&body, data, size);
  const int parsed = length_bytes == 1 ? CBS_get_u8_length_prefixed(&body, &list)
                                       : CBS_get_u16_length_prefixed(&body, &list);
  uint16_t value = 0;
  while (parsed == 1 && CBS_get_u16(&list, &value) == 1) {
    if (predicate(value)) return true;
  }
  return false;
}

// Whether `offer` lets us sign with a key: an ECDSA one on `curve`, or RSA where that is 0.
bool MaySign(const Offer& offer, uint16_t curve, bool tls13) {
  const std::vector<uint16_t>& allowed = offer.signature_algorithms;
  return allowed.empty() || std::any_of(allowed.begin(), allowed.end(), [&](uint16_t algorithm) {
           return Signs(algorithm, curve, tls13);
         });
}

bool MaySign(const Offer& offer, const Credential& credential) {
  return MaySign(offer, credential.curve, true) ||
         (offer.minimum_version < TLS1_3_VERSION && MaySign(offer, credential.curve, false));
}

// Whether the client can verify an ECDSA signature by a key on `curve` that `offer` lets us make.
bool TakesEcdsa(const SSL_CLIENT_HELLO* hello, const Offer& offer, uint16_t curve) {
  const auto allowed = [&offer](uint16_t algorithm) {
    const std::vector<uint16_t>& list = offer.signature_algorithms;
    return list.empty() || std::find(list.begin(), list.end(), algorithm) != list.end();
  };
  const bool tls13 = AnyInExtension(hello, kSupportedVersions, 1, false,
                                    [](uint16_t version) { return version == TLS1_3_VERSION; });
  if (tls13) {  // the scheme names the curve, RFC 8446 §4.2.3
    const uint16_t scheme = curve == SSL_CURVE_SECP256R1   ? SSL_SIGN_ECDSA_SECP256R1_SHA256
                            : curve == SSL_CURVE_SECP384R1 ? SSL_SIGN_ECDSA_SECP384R1_SHA384
                                                           : SSL_SIGN_ECDSA_SECP521R1_SHA512;
    return allowed(scheme) &&
           AnyInExtension(hello, kSignatureAlgorithms, 2, false,
                          [scheme](uint16_t offered) { return offered == scheme; });
  }
  // Before: any hash with ECDSA (RFC 5246 §7.4.1.4.1), the key's curve among the groups (RFC 8422
  // §5.1.1), and a suite for it.
  constexpr uint8_t kEcdsa = 3;
  const bool signature = AnyInExtension(
      hello, kSignatureAlgorithms, 2, true,
      [&](uint16_t offered) { return (offered & 0xff) == kEcdsa && allowed(offered); });
  const bool group = AnyInExtension(hello, kSupportedGroups, 2, true,
                                    [curve](uint16_t offered) { return offered == curve; });
  if (!signature || !group) return false;
  constexpr std::array<uint16_t, 5> kEcdsaSuites = {0xc02b, 0xc02c, 0xcca9, 0xc009, 0xc00a};
  CBS suites;
  CBS_init(&suites, hello->cipher_suites, hello->cipher_suites_len);
  uint16_t suite = 0;
  while (CBS_get_u16(&suites, &suite) == 1) {
    if (std::find(kEcdsaSuites.begin(), kEcdsaSuites.end(), suite) != kEcdsaSuites.end()) {
      return true;
    }
  }
  return false;
}

// Staple gives the connection the credential's OCSP response, where there is one that is good now
// and the client asks for it (RFC 6066 §8). It returns false when memory is short.
bool Staple(const SSL_CLIENT_HELLO* hello, const Credential& credential) {
  const uint8_t* request = nullptr;
  size_t size = 0;
  if (!credential.staple || credential.stapled_until < std::chrono::system_clock::now() ||
      SSL_early_callback_ctx_extension_get(hello, kStatusRequest, &request, &size) != 1) {
    return true;
  }
  return SSL_set_ocsp_response(hello->ssl, CRYPTO_BUFFER_data(credential.staple.get()),
                               CRYPTO_BUFFER_len(credential.staple.get())) == 1;
}

// The default certificate must be of use, or one of the other key type beside it.
tl::expected<void, Error> CheckDefault(const Offer& offer, const CertificateStore& certificates) {
  const CertificateStore::Choice choice = certificates.Find({});
  for (const Credential* credential : {choice.ecdsa, choice.rsa}) {
    if (credential != nullptr && MaySign(offer, *credential)) return {};
  }
  return tl::unexpected(
      Error{"none of tls_signature_algorithms suits the key of the default certificate"});
}

}  // namespace

bool SetOffer(SSL_CTX* context, const Offer& offer) {
  const std::vector<uint16_t>& signatures = offer.signature_algorithms;
  if (!signatures.empty() &&
      (SSL_CTX_set_signing_algorithm_prefs(context, signatures.data(), signatures.size()) != 1 ||
       SSL_CTX_set_verify_algorithm_prefs(context, signatures.data(), signatures.size()) != 1)) {
    return false;
  }
  if (offer.own_order) SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(context, offer.split_cbc_records ? SSL_MODE_CBC_RECORD_SPLITTING : 0);
  return SSL_CTX_set_min_proto_version(context, offer.minimum_version) == 1 &&
         SSL_CTX_set_max_proto_version(context, offer.maximum_version) == 1 &&
         SSL_CTX_set1_curves_list(context, offer.groups.c_str()) == 1 &&
         SSL_CTX_set_strict_cipher_list(context, offer.ciphers.c_str()) == 1;
}

struct ServerContext::Callbacks {
  static ssl_select_cert_result_t SelectCertificate(const SSL_CLIENT_HELLO* hello) {
    const ServerContext& self = Channel::ContextAtWork(hello->ssl);
    const char* sent_name = SSL_get_servername(hello->ssl, TLSEXT_NAMETYPE_host_name);
    const CertificateStore::Choice choice = self.options_.certificates->Find(
        sent_name == nullptr ? std::string() : HostName(sent_name));
    const Credential* credential = choice.preferred();
    if (choice.ecdsa != nullptr && choice.rsa != nullptr &&
        !TakesEcdsa(hello, self.offer_, choice.ecdsa->curve)) {
      credential = choice.rsa;
    }
    return Staple(hello, *credential) && Channel::Present(hello->ssl, *credential)
               ? ssl_select_cert_success
               : ssl_select_cert_error;
  }

  // With strict_sni only. RFC 6066 §3: the alert is unrecognized_name.
  static int RefuseUnknownName(SSL* ssl, int* alert, void*) {
    const ServerContext& self = Channel::ContextAtWork(ssl);
    const char* sent_name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (sent_name == nullptr || self.options_.certificates->Find(HostName(sent_name)).known) {
      return SSL_TLSEXT_ERR_NOACK;
    }
    *alert = SSL_AD_UNRECOGNIZED_NAME;
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }

  // RFC 7301 §3.2: a list without our id is refused, against cross-protocol attacks.
  static int SelectAlpn(SSL* ssl, const uint8_t** out, uint8_t* out_size, const uint8_t* in,
                        unsigned in_size, void*) {
    const ServerContext& self = Channel::ContextAtWork(ssl);
    CBS list;
    CBS id;
    CBS_init(&list, in, in_size);
    while (CBS_get_u8_length_prefixed(&list, &id) == 1) {
      const std::string& alpn = self.options_.alpn;
      if (CBS_mem_equal(&id, reinterpret_cast<const uint8_t*>(alpn.data()), alpn.size()) == 1) {
        *out = CBS_data(&id);
        *out_size = static_cast<uint8_t>(CBS_len(&id));
        return SSL_TLSEXT_ERR_OK;
      }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }

  // RFC 5077 §4.
  static int TicketKey(SSL* ssl, uint8_t* name, uint8_t* iv, EVP_CIPHER_CTX* cipher, HMAC_CTX* mac,
                       int encrypt) {
    const auto ring = Channel::ContextAtWork(ssl).options_.ticket_keys->Snapshot();
    if (encrypt == 1) return ring->Seal(name, iv, cipher, mac);
    return ring->Open(name, iv, cipher, mac, &Channel::AtWork(ssl).ticket_);
  }
};

tl::expected<std::shared_ptr<const ServerContext>, Error> ServerContext::Make(
    const ServerOptions& options) {
  if (!options.certificates) return tl::unexpected(Error{"there is no certificate"});
  if (options.alpn.size() > 255) return tl::unexpected(Error{"the ALPN id is too long"});
  std::shared_ptr<ServerContext> self(new ServerContext);
  // Certificates stay bytes: no X.509 object is ever made for a connection.
  self->context_ = SSL_CTX_new(TLS_with_buffers_method());
  SSL_CTX* context = self->context_;
  if (context == nullptr) return tl::unexpected(LibraryError("making a TLS context"));
  self->options_ = options;

  auto offer = MakeOffer(options.profile, options.settings);
  if (!offer) return tl::unexpected(Error{offer.error().front().text});
  self->offer_ = std::move(*offer);
  if (auto suits = CheckDefault(self->offer_, *options.certificates); !suits) {
    return tl::unexpected(suits.error());
  }
  if (!SetOffer(context, self->offer_)) {
    return tl::unexpected(LibraryError("applying the TLS profile"));
  }
  SSL_CTX_set_select_certificate_cb(context, Callbacks::SelectCertificate);
  if (options.strict_sni) {
    SSL_CTX_set_tlsext_servername_callback(context, Callbacks::RefuseUnknownName);
  }
  if (!options.alpn.empty()) {
    SSL_CTX_set_alpn_select_cb(context, Callbacks::SelectAlpn, nullptr);
  }
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  // A session of one protocol is not resumed on another, whoever shares the ticket keys; nor one
  // that was made under another demand for client certificates.
  std::string id_context = "gatepost " + options.alpn;
  if (const ClientVerifier* verifier = options.client_verifier.get(); verifier != nullptr) {
    SSL_CTX_set_max_cert_list(context, kMaxClientChainBytes);
    bssl::UniquePtr<STACK_OF(CRYPTO_BUFFER)> names = Copy(verifier->ca_names_);
    if (!names) return tl::unexpected(LibraryError("taking the client CAs"));
    SSL_CTX_set0_client_CAs(context, names.release());
    const std::string all = id_context +
                            (options.require_client_certificate ? " require " : " request ") +
                            verifier->digest_;
    id_context.resize(SHA256_DIGEST_LENGTH);
    SHA256(reinterpret_cast<const uint8_t*>(all.data()), all.size(),
           reinterpret_cast<uint8_t*>(id_context.data()));
  }
  id_context.resize(std::min<size_t>(id_context.size(), SSL_MAX_SID_CTX_LENGTH));
  SSL_CTX_set_session_id_context(context, reinterpret_cast<const uint8_t*>(id_context.data()),
                                 id_context.size());
  // One: a mail client resumes with the newest, and every resumption gives it another.
  SSL_CTX_set_num_tickets(context, 1);
  if (options.ticket_keys) {
    const auto lifetime = static_cast<uint32_t>(options.ticket_keys->lifetime().count());
    SSL_CTX_set_timeout(context, lifetime);
    SSL_CTX_set_session_psk_dhe_timeout(context, lifetime);
    SSL_CTX_set_tlsext_ticket_key_cb(context, Callbacks::TicketKey);
  }
  SSL_CTX_set_early_data_enabled(context, 0);
  if (options.key_log) SSL_CTX_set_keylog_callback(context, Channel::LogKey);
  return self;
}

tl::expected<std::shared_ptr<const ServerContext>, Error> ServerContext::With(
    std::shared_ptr<const CertificateStore> certificates,
    std::shared_ptr<const ClientVerifier> client_verifier) const {
  ServerOptions options = options_;
  options.certificates = std::move(certificates);
  options.client_verifier = std::move(client_verifier);
  const auto cas = [](const ServerOptions& of) {
    return of.client_verifier ? std::string_view(of.client_verifier->digest_) : std::string_view();
  };
  if (cas(options) != cas(options_)) return Make(options);  // the CAs are told to clients
  if (auto suits = CheckDefault(offer_, *options.certificates); !suits) {
    return tl::unexpected(suits.error());
  }
  std::shared_ptr<ServerContext> other(new ServerContext);
  SSL_CTX_up_ref(context_);
  other->context_ = context_;
  other->options_ = std::move(options);
  other->offer_ = offer_;
  return other;
}

ServerContext::~ServerContext() {
  SSL_CTX_free(context_);
}

std::string LibraryVersion() {
  return "BoringSSL (API " + std::to_string(BORINGSSL_API_VERSION) + ")";
}

}  // namespace gatepost::tls
