# The Debian package: `cpack -G DEB` in a build folder of the release preset.
#
# Its files are a component of their own, so that `cmake --install` never writes to /etc.
# SPDX-License-Identifier: Apache-2.0
set(package COMPONENT package EXCLUDE_FROM_ALL)
set(here ${CMAKE_CURRENT_LIST_DIR})
set(deploy ${PROJECT_SOURCE_DIR}/deploy)

# BoringSSL of Debian's lies in a folder of its own, which the installed program has to know.
set_target_properties(gatepost PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
install(TARGETS gatepost RUNTIME DESTINATION bin ${package})
install(FILES ${deploy}/systemd/gatepost.service DESTINATION lib/systemd/system ${package})
install(FILES ${deploy}/systemd/sysusers.conf DESTINATION lib/sysusers.d RENAME gatepost.conf ${package})
install(FILES ${here}/gatepost.toml DESTINATION /etc/gatepost PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ
  ${package})
install(FILES ${deploy}/fail2ban/filter.d/gatepost.conf DESTINATION /etc/fail2ban/filter.d ${package})
install(FILES ${deploy}/logrotate/gatepost DESTINATION /etc/logrotate.d ${package})
install(FILES ${here}/gatepost.8 DESTINATION share/man/man8 ${package})
install(FILES ${here}/gatepost.bash DESTINATION share/bash-completion/completions RENAME gatepost ${package})
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION share/doc/gatepost RENAME copyright ${package})
install(FILES ${PROJECT_SOURCE_DIR}/README.md ${PROJECT_SOURCE_DIR}/CHANGELOG.md
  ${PROJECT_SOURCE_DIR}/config/reference.md ${PROJECT_SOURCE_DIR}/gateway/observe/metrics.md
  ${PROJECT_SOURCE_DIR}/gateway/control/control.md
  DESTINATION share/doc/gatepost ${package})
install(FILES ${PROJECT_SOURCE_DIR}/config/gatepost.toml ${deploy}/systemd/credentials.conf
  ${deploy}/systemd/gatepost.socket
  ${deploy}/fail2ban/jail.d/gatepost.conf DESTINATION share/doc/gatepost/examples ${package})
install(FILES ${deploy}/grafana/gatepost.json DESTINATION share/gatepost/grafana ${package})
install(DIRECTORY ${deploy}/prometheus DESTINATION share/gatepost ${package})

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "Gatepost maintainers <gatepost@example.org>")
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_SET_DESTDIR ON)  # for what goes to /etc
set(CPACK_INSTALL_CMAKE_PROJECTS "${CMAKE_BINARY_DIR};gatepost;package;/")
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY ON)  # the program, not all tests
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION mail)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "adduser, ca-certificates, openssl")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "fail2ban, prometheus")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "TLS-terminating gateway in front of IMAP, POP3 and SMTP servers
 Gatepost listens on every port that mail programs know, upgrades or terminates
 TLS, logs the client in, finds the user's backend and relays the protocol.")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${here}/conffiles ${here}/postinst ${here}/prerm ${here}/postrm)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)
