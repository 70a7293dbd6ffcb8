# Completion of gatepost(8) for bash.
# SPDX-License-Identifier: Apache-2.0
_gatepost() {
  local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} before=${COMP_WORDS[COMP_CWORD - 1]}
  if ((COMP_CWORD == 1)); then
    mapfile -t COMPREPLY < <(compgen -W "serve check hash-password version --help --version" -- "$word")
    return
  fi
  case $command:$before in
    serve:-c | serve:--config | serve:--tls-keylog | check:check) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
    serve:*) mapfile -t COMPREPLY < <(compgen -W "-c --config --tls-keylog --help" -- "$word") ;;
    check:* | hash-password:* | version:*) mapfile -t COMPREPLY < <(compgen -W --help -- "$word") ;;
  esac
}
complete -o filenames -F _gatepost gatepost
