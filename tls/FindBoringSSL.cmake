# FindBoringSSL: the TLS library, and never OpenSSL in its place.
#
# Looks in exactly two places: the prefix BORINGSSL_ROOT (an installed upstream build: lib/libssl.a,
# lib/libcrypto.a, include/openssl; linked static, its symbols not exported), or, where that is
# empty, Debian's android-libboringssl-dev. Defines the imported target BoringSSL::ssl and
# BORINGSSL_API_VERSION, and says which was found.
include_guard(GLOBAL)

if(BORINGSSL_ROOT)
  set(_boringssl_where "BORINGSSL_ROOT=${BORINGSSL_ROOT}")
  set(_boringssl_include_dirs "${BORINGSSL_ROOT}/include")
  set(_boringssl_library_dirs "${BORINGSSL_ROOT}/lib" "${BORINGSSL_ROOT}/lib64")
  set(_boringssl_suffixes .a)
else()
  set(_boringssl_where "Debian's android-libboringssl-dev")
  set(_boringssl_include_dirs /usr/include/android)
  set(_boringssl_library_dirs /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/android)
  set(_boringssl_suffixes .so)
endif()

# The cached results of an earlier configure with another BORINGSSL_ROOT must not survive.
unset(BORINGSSL_INCLUDE_DIR CACHE)
unset(BORINGSSL_SSL_LIBRARY CACHE)
unset(BORINGSSL_CRYPTO_LIBRARY CACHE)
find_path(BORINGSSL_INCLUDE_DIR openssl/base.h PATHS ${_boringssl_include_dirs} NO_DEFAULT_PATH)
set(_boringssl_saved_suffixes ${CMAKE_FIND_LIBRARY_SUFFIXES})
set(CMAKE_FIND_LIBRARY_SUFFIXES ${_boringssl_suffixes})
find_library(BORINGSSL_SSL_LIBRARY ssl PATHS ${_boringssl_library_dirs} NO_DEFAULT_PATH)
find_library(BORINGSSL_CRYPTO_LIBRARY crypto PATHS ${_boringssl_library_dirs} NO_DEFAULT_PATH)
set(CMAKE_FIND_LIBRARY_SUFFIXES ${_boringssl_saved_suffixes})
mark_as_advanced(BORINGSSL_INCLUDE_DIR BORINGSSL_SSL_LIBRARY BORINGSSL_CRYPTO_LIBRARY)

# OpenSSL's headers have no BORINGSSL_API_VERSION: it counts as not found.
set(BORINGSSL_API_VERSION "")
if(BORINGSSL_INCLUDE_DIR)
  file(STRINGS "${BORINGSSL_INCLUDE_DIR}/openssl/base.h" _boringssl_version_line
    REGEX "^#define BORINGSSL_API_VERSION [0-9]+")
  string(REGEX MATCH "[0-9]+$" BORINGSSL_API_VERSION "${_boringssl_version_line}")
endif()

if(NOT BORINGSSL_API_VERSION OR NOT BORINGSSL_SSL_LIBRARY OR NOT BORINGSSL_CRYPTO_LIBRARY)
  message(FATAL_ERROR
    "BoringSSL was not found (${_boringssl_where}).\n"
    "  headers: ${_boringssl_include_dirs} (API version: '${BORINGSSL_API_VERSION}')\n"
    "  libraries: ${_boringssl_library_dirs} (ssl: ${BORINGSSL_SSL_LIBRARY}, crypto: "
    "${BORINGSSL_CRYPTO_LIBRARY})\n"
    "Install Debian's package (apt-get install android-libboringssl-dev), or build BoringSSL "
    "with -DCMAKE_POSITION_INDEPENDENT_CODE=ON, install it, and pass "
    "-DBORINGSSL_ROOT=<its prefix>. OpenSSL does not serve in its place.")
endif()
message(STATUS
  "BoringSSL API ${BORINGSSL_API_VERSION}: ${BORINGSSL_SSL_LIBRARY} (${_boringssl_where})")

add_library(BoringSSL::ssl INTERFACE IMPORTED GLOBAL)
set_target_properties(BoringSSL::ssl PROPERTIES
  INTERFACE_INCLUDE_DIRECTORIES "${BORINGSSL_INCLUDE_DIR}")
if(BORINGSSL_ROOT)
  find_package(Threads REQUIRED)
  set_target_properties(BoringSSL::ssl PROPERTIES INTERFACE_LINK_LIBRARIES
    "${BORINGSSL_SSL_LIBRARY};${BORINGSSL_CRYPTO_LIBRARY};Threads::Threads;-Wl,--exclude-libs,libssl.a:libcrypto.a")
else()
  # The folder is not on the loader's path: whatever links the library must say where it lies.
  get_filename_component(_boringssl_dir "${BORINGSSL_SSL_LIBRARY}" DIRECTORY)
  set_target_properties(BoringSSL::ssl PROPERTIES INTERFACE_LINK_LIBRARIES
    "${BORINGSSL_SSL_LIBRARY};${BORINGSSL_CRYPTO_LIBRARY};-Wl,-rpath,${_boringssl_dir}")
endif()
