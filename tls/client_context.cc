// SPDX-License-Identifier: Apache-2.0
#include "tls/client_context.h"

#include <openssl/sha.h>

#include <utility>

#include "tls/channel.h"
#include "tls/internal.h"

namespace gatepost::tls {
namespace {

constexpr char kSystemCertificates[] = "/etc/ssl/certs/ca-certificates.crt";

// The wire form of a list of one protocol id, RFC 7301 §3.1.
std::string AlpnList(const std::string& id) {
  return std::string(1, static_cast<char>(static_cast<uint8_t>(id.size()))) + id;
}

// Digest takes certificates, in order, and tells whether others are the same.
class Digest {
 public:
  Digest() { SHA256_Init(&state_); }
  void Add(const std::vector<ParsedCertificate>& certificates) {
    for (const ParsedCertificate& certificate : certificates) {
      SHA256_Update(&state_, CRYPTO_BUFFER_data(certificate.der.get()),
                    CRYPTO_BUFFER_len(certificate.der.get()));
    }
    SHA256_Update(&state_, "", 1);
  }
  [[nodiscard]] std::array<uint8_t, SHA256_DIGEST_LENGTH> Finish() {
    std::array<uint8_t, SHA256_DIGEST_LENGTH> result;
    SHA256_Final(result.data(), &state_);
    return result;
  }

 private:
  SHA256_CTX state_;
};

}  // namespace

struct ClientContext::Callbacks {
  static int KeepSession(SSL* ssl, SSL_SESSION* session) {
    Channel::PeerAtWork(ssl).Keep(session);
    return 0;  // it took a reference of its own
  }
};

tl::expected<std::shared_ptr<const ClientContext>, Error> ClientContext::Make(
    const ClientOptions& options, std::shared_ptr<const ClientContext> before) {
  if (options.alpn.size() > 255) return tl::unexpected(Error{"the ALPN id is too long"});
  std::shared_ptr<ClientContext> self(new ClientContext);
  self->pins_ = options.pins;
  Digest digest;
  std::string trusted_file;
  std::vector<ParsedCertificate> trusted;
  if (options.verify) {
    trusted_file = options.ca_file.value_or(kSystemCertificates);
    auto certificates = ReadCertificates(trusted_file);
    if (!certificates) return tl::unexpected(certificates.error());
    trusted = std::move(*certificates);
    digest.Add(trusted);
  }
  std::vector<ParsedCertificate> chain;
  bssl::UniquePtr<EVP_PKEY> key;
  if (options.certificate) {
    auto certificates = ReadCertificates(options.certificate->chain);
    if (!certificates) return tl::unexpected(certificates.error());
    auto private_key = ReadPrivateKey(options.certificate->key);
    if (!private_key) return tl::unexpected(private_key.error());
    chain = std::move(*certificates);
    key = std::move(*private_key);
    if (X509_check_private_key(chain.front().x509.get(), key.get()) != 1) {
      ERR_clear_error();
      return tl::unexpected(Error{Printable(options.certificate->key.native(), 4096) +
                                  ": the private key does not match the certificate in " +
                                  Printable(options.certificate->chain.native(), 4096)});
    }
    digest.Add(chain);  // which stands for the key, too
  }
  self->files_digest_ = digest.Finish();
  if (before && before->files_digest_ == self->files_digest_) return before;

  if (options.verify) {
    auto store = TrustStore(trusted);
    if (!store) return tl::unexpected(Error{trusted_file + ": " + store.error().text});
    self->trusted_ = store->release();
  }
  self->pool_ = CRYPTO_BUFFER_POOL_new();
  self->context_ = SSL_CTX_new(TLS_with_buffers_method());
  SSL_CTX* context = self->context_;
  if (context == nullptr || self->pool_ == nullptr) {
    return tl::unexpected(LibraryError("making a TLS context"));
  }
  SSL_CTX_set0_buffer_pool(context, self->pool_);
  if (!SetOffer(context, BackendOffer(options.minimum_version))) {
    return tl::unexpected(LibraryError("applying the TLS profile"));
  }
  if (key) {
    std::vector<CRYPTO_BUFFER*> buffers;
    buffers.reserve(chain.size());
    for (const ParsedCertificate& certificate : chain) buffers.push_back(certificate.der.get());
    if (SSL_CTX_set_chain_and_key(context, buffers.data(), buffers.size(), key.get(), nullptr) !=
        1) {
      return tl::unexpected(LibraryError("taking " + options.certificate->chain.string()));
    }
  }
  if (!options.alpn.empty()) {
    const std::string list = AlpnList(options.alpn);
    // Zero is success here, unlike everywhere else.
    if (SSL_CTX_set_alpn_protos(context, reinterpret_cast<const uint8_t*>(list.data()),
                                static_cast<unsigned>(list.size())) != 0) {
      return tl::unexpected(LibraryError("setting the ALPN id"));
    }
  }
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(context, Callbacks::KeepSession);
  self->key_log_ = options.key_log;
  if (self->key_log_) SSL_CTX_set_keylog_callback(context, Channel::LogKey);
  return self;
}

ClientContext::~ClientContext() {
  SSL_CTX_free(context_);
  CRYPTO_BUFFER_POOL_free(pool_);
  X509_STORE_free(trusted_);
}

Peer::Peer(std::shared_ptr<const ClientContext> context, std::string server_name)
    : context_(std::move(context)), server_name_(std::move(server_name)) {
  if (server_name_.ends_with('.')) server_name_.pop_back();  // RFC 6066 §3: without the final dot
}

Peer::~Peer() {
  Forget();
  CRYPTO_BUFFER_free(leaf_);
}

void Peer::Verified(const CRYPTO_BUFFER* leaf, Time until) {
  valid_until_ = until;
  if (leaf == nullptr || leaf == leaf_) return;  // the context's pool has one of each
  Forget();
  CRYPTO_BUFFER_free(leaf_);
  leaf_ = const_cast<CRYPTO_BUFFER*>(leaf);
  CRYPTO_BUFFER_up_ref(leaf_);
}

void Peer::Keep(SSL_SESSION* session) {
  const auto* chain = SSL_SESSION_get0_peer_certificates(session);
  // A connection may be older than the last verification, and its certificate another.
  if (chain == nullptr || sk_CRYPTO_BUFFER_num(chain) == 0 ||
      sk_CRYPTO_BUFFER_value(chain, 0) != leaf_) {
    return;
  }
  if (sessions_.size() == kMaxSessions) {
    SSL_SESSION_free(sessions_.front());
    sessions_.erase(sessions_.begin());
  }
  SSL_SESSION_up_ref(session);
  sessions_.push_back(session);
}

SSL_SESSION* Peer::Take(Time now) {
  if (now >= valid_until_) Forget();
  if (sessions_.empty()) return nullptr;
  SSL_SESSION* session = sessions_.back();
  if (SSL_SESSION_should_be_single_use(session) == 1) {  // RFC 8446 appendix C.4
    sessions_.pop_back();
  } else {
    SSL_SESSION_up_ref(session);
  }
  return session;
}

void Peer::Forget() {
  for (SSL_SESSION* session : sessions_) SSL_SESSION_free(session);
  sessions_.clear();
}

}  // namespace gatepost::tls
