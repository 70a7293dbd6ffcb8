// Which pairs of certificate and key a folder holds.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <tl/expected.hpp>
#include <vector>

#include "tls/certificate_store.h"
#include "tls/error.h"

namespace gatepost::tls {

// FindCertificateFiles returns the pairs in `directory` and in its sub-folders (one level; links
// are followed), sorted by the path of the chain; at least one. A pair is NAME.crt with NAME.key,
// as a Kubernetes secret has them too (tls.crt, tls.key), or fullchain.pem with privkey.pem, as
// certbot has them. Names that begin with a dot are skipped: Kubernetes keeps what "..data" links
// to there, and editors their drafts. Only names are looked at.
[[nodiscard]] tl::expected<std::vector<CertificateFiles>, Error> FindCertificateFiles(
    const std::filesystem::path& directory);

// CertificateFolders returns the folders that FindCertificateFiles looks into, `directory` first.
[[nodiscard]] std::vector<std::filesystem::path> CertificateFolders(
    const std::filesystem::path& directory);

}  // namespace gatepost::tls
