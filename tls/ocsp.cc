// SPDX-License-Identifier: Apache-2.0
#include "tls/ocsp.h"

#include <openssl/asn1.h>

#include <optional>
#include <string>

namespace gatepost::tls {
namespace {

using Time = std::chrono::system_clock::time_point;

constexpr unsigned kContext0 = CBS_ASN1_CONSTRUCTED | CBS_ASN1_CONTEXT_SPECIFIC | 0;
constexpr unsigned kContext1 = CBS_ASN1_CONSTRUCTED | CBS_ASN1_CONTEXT_SPECIFIC | 1;
constexpr unsigned kGood = CBS_ASN1_CONTEXT_SPECIFIC | 0;  // CertStatus
constexpr unsigned kRevoked = kContext1;

tl::unexpected<Error> Malformed() {
  return tl::unexpected(Error{"is no OCSP response (DER, RFC 6960)"});
}

// The id-pkix-ocsp-basic response type, 1.3.6.1.5.5.7.48.1.1.
constexpr uint8_t kBasic[] = {0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01};

const char* StatusText(uint64_t status) {
  switch (status) {
    case 1:
      return "malformedRequest";
    case 2:
      return "internalError";
    case 3:
      return "tryLater";
    case 5:
      return "sigRequired";
    case 6:
      return "unauthorized";
    default:
      return "an error";
  }
}

// TakeTime reads a GeneralizedTime.
std::optional<Time> TakeTime(CBS* in) {
  CBS element;
  if (CBS_get_asn1_element(in, &element, CBS_ASN1_GENERALIZEDTIME) != 1) return std::nullopt;
  const uint8_t* data = CBS_data(&element);
  bssl::UniquePtr<ASN1_GENERALIZEDTIME> time(
      d2i_ASN1_GENERALIZEDTIME(nullptr, &data, static_cast<long>(CBS_len(&element))));
  ERR_clear_error();
  if (!time) return std::nullopt;
  const Time point = TimePoint(time.get());
  if (point == Time()) return std::nullopt;
  return point;
}

// TakeResponses goes down to the list of single responses.
bool TakeResponses(CBS response_bytes, CBS* responses) {
  CBS explicit_bytes;
  CBS bytes;
  CBS type;
  CBS octets;
  CBS basic;
  CBS data;
  CBS ignored;
  int present = 0;
  unsigned responder = 0;
  if (CBS_get_asn1(&response_bytes, &explicit_bytes, kContext0) != 1 ||
      CBS_get_asn1(&explicit_bytes, &bytes, CBS_ASN1_SEQUENCE) != 1 ||
      CBS_get_asn1(&bytes, &type, CBS_ASN1_OBJECT) != 1 ||
      CBS_mem_equal(&type, kBasic, sizeof kBasic) != 1 ||
      CBS_get_asn1(&bytes, &octets, CBS_ASN1_OCTETSTRING) != 1 ||
      CBS_get_asn1(&octets, &basic, CBS_ASN1_SEQUENCE) != 1 || CBS_len(&octets) != 0 ||
      CBS_get_asn1(&basic, &data, CBS_ASN1_SEQUENCE) != 1) {
    return false;
  }
  return CBS_get_optional_asn1(&data, &ignored, &present, kContext0) == 1 &&  // version
         CBS_get_any_asn1(&data, &ignored, &responder) == 1 &&
         CBS_get_asn1(&data, &ignored, CBS_ASN1_GENERALIZEDTIME) == 1 &&
         CBS_get_asn1(&data, responses, CBS_ASN1_SEQUENCE) == 1;
}

// TakeSerial reads a CertID and returns its serial number; null: it has none.
bssl::UniquePtr<ASN1_INTEGER> TakeSerial(CBS* single) {
  CBS id;
  CBS ignored;
  CBS serial;
  if (CBS_get_asn1(single, &id, CBS_ASN1_SEQUENCE) != 1 ||
      CBS_get_asn1(&id, &ignored, CBS_ASN1_SEQUENCE) != 1 ||
      CBS_get_asn1(&id, &ignored, CBS_ASN1_OCTETSTRING) != 1 ||
      CBS_get_asn1(&id, &ignored, CBS_ASN1_OCTETSTRING) != 1 ||
      CBS_get_asn1_element(&id, &serial, CBS_ASN1_INTEGER) != 1) {
    return nullptr;
  }
  const uint8_t* data = CBS_data(&serial);
  bssl::UniquePtr<ASN1_INTEGER> number(
      d2i_ASN1_INTEGER(nullptr, &data, static_cast<long>(CBS_len(&serial))));
  ERR_clear_error();
  return number;
}

}  // namespace

tl::expected<Time, Error> CheckOcspResponse(std::span<const uint8_t> der, const X509& certificate) {
  CBS in;
  CBS response;
  CBS status;
  uint8_t status_value = 0;
  CBS_init(&in, der.data(), der.size());
  if (CBS_get_asn1(&in, &response, CBS_ASN1_SEQUENCE) != 1 || CBS_len(&in) != 0 ||
      CBS_get_asn1(&response, &status, CBS_ASN1_ENUMERATED) != 1 || CBS_len(&status) != 1 ||
      CBS_get_u8(&status, &status_value) != 1) {
    return Malformed();
  }
  if (status_value != 0) {
    return tl::unexpected(Error{std::string("holds no answer: the responder said \"") +
                                StatusText(status_value) + "\""});
  }
  CBS responses;
  if (!TakeResponses(response, &responses)) return Malformed();
  const ASN1_INTEGER* wanted = X509_get0_serialNumber(&certificate);
  while (CBS_len(&responses) > 0) {
    CBS single;
    CBS ignored;
    CBS next;
    unsigned state = 0;
    int has_next = 0;
    if (CBS_get_asn1(&responses, &single, CBS_ASN1_SEQUENCE) != 1) return Malformed();
    const bssl::UniquePtr<ASN1_INTEGER> serial = TakeSerial(&single);
    if (!serial || CBS_get_any_asn1(&single, &ignored, &state) != 1) return Malformed();
    if (ASN1_INTEGER_cmp(serial.get(), wanted) != 0) continue;
    if (state == kRevoked) return tl::unexpected(Error{"says that the certificate is revoked"});
    if (state != kGood) return tl::unexpected(Error{"does not know the certificate"});
    if (!TakeTime(&single) || CBS_get_optional_asn1(&single, &next, &has_next, kContext0) != 1) {
      return Malformed();
    }
    if (has_next == 0) return Time::max();
    const std::optional<Time> until = TakeTime(&next);
    if (!until) return Malformed();
    return *until;
  }
  return tl::unexpected(Error{"is about another certificate"});
}

}  // namespace gatepost::tls
