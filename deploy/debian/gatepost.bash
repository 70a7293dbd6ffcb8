# Completion of gatepost(8) for bash.
# SPDX-License-Identifier: Apache-2.0
_gatepost() {
  local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} before=${COMP_WORDS[COMP_CWORD - 1]}
  local asks="-c --config --socket --json --help" filters="--user --protocol --backend"
  if ((COMP_CWORD == 1)); then
    mapfile -t COMPREPLY < <(compgen -W "serve check hash-password version status sessions backends \
      certificates kick drain reload upgrade --help --version" -- "$word")
    return
  fi
  case $command:$before in
    *:-c | *:--config | *:--socket | serve:--tls-keylog | check:check)
      mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
    *:--protocol) mapfile -t COMPREPLY < <(compgen -W "imap pop3 smtp" -- "$word") ;;
    serve:*) mapfile -t COMPREPLY < <(compgen -W "-c --config --tls-keylog --help" -- "$word") ;;
    sessions:*) mapfile -t COMPREPLY < <(compgen -W "$asks $filters --limit" -- "$word") ;;
    kick:*) mapfile -t COMPREPLY < <(compgen -W "$asks $filters" -- "$word") ;;
    drain:*) mapfile -t COMPREPLY < <(compgen -W "$asks --wait" -- "$word") ;;
    status:* | backends:* | certificates:* | reload:* | upgrade:*) mapfile -t COMPREPLY < <(compgen -W "$asks" -- "$word") ;;
    check:*) mapfile -t COMPREPLY < <(compgen -W "-c --config --help" -- "$word") ;;
    hash-password:* | version:*) mapfile -t COMPREPLY < <(compgen -W --help -- "$word") ;;
  esac
}
complete -o filenames -F _gatepost gatepost
