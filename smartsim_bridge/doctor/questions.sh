# Asks a head what the doctor wants to know beyond the probe.  POSIX sh.
#
# Runs in a subshell, behind the prelude.  Expects: nonce state.  Answers with lines
# `NONCE key=value`; `place` opens a record that the place_... lines after it belong to.
# What it writes for a trial is gone when it ends, also when nobody listens any more.

LC_ALL=C
set -f
# A connection that broke must not keep us from cleaning up.
trap '' PIPE

say() {
    printf '%s %s=' "$nonce" "$1"
    printf '%s' "$2" | tr '[:cntrl:]' ' '
    echo
}

has() {
    command -v "$1" >/dev/null 2>&1
}

# A dead file server or accounting daemon costs this much, and not the whole answer.
limited() {
    seconds=$1
    shift
    if has timeout; then timeout -k 1 "$seconds" "$@"; else "$@"; fi
}

say_shell() {
    entry=
    has getent && entry=$(limited 5 getent passwd "$(id -u)" 2>/dev/null)
    entry=${entry##*:}
    say shell "${entry:-$SHELL}"
}

# --- directories --------------------------------------------------------------------------

# A private one is refused by the server, too, where it is a link or somebody else's.
is_usable() {
    [ -d "$1" ] && [ -O "$1" ] && { [ -z "$2" ] || [ ! -L "$1" ]; }
}

# Looks at the directory, or at the nearest one above that exists.
say_place() {
    say place "$1"
    nearest=$1
    while [ ! -e "$nearest" ] && [ ! -L "$nearest" ] && [ -n "$nearest" ]; do
        nearest=${nearest%/*}
    done
    nearest=${nearest:-/}
    say place_in "$nearest"
    if [ "$nearest" = "$1" ] && ! is_usable "$1" "$2"; then
        say place_fault "it is no directory of yours"
        return
    fi
    set -- $(limited 5 df -Pk "$nearest" 2>/dev/null | tail -n 1)
    say place_free "${4:-}"
    say place_kind "$(limited 5 stat -f -c %T "$nearest" 2>/dev/null)"
    scratch=$(limited 5 mktemp -d "$nearest/.smartsim-bridge-doctor-XXXXXX" 2>&1)
    if [ $? -ne 0 ] || [ ! -d "$scratch" ]; then
        say place_fault "${scratch##*: }"
        return
    fi
    try_scratch
    rm -rf "$scratch"
}

try_scratch() {
    if ! said=$(limited 5 dd if=/dev/zero of="$scratch/full" bs=65536 count=1 2>&1); then
        said=$(printf '%s\n' "$said" | grep -v records | head -n 1)
        say place_fault "${said##*: }"
        return
    fi
    printf '#!/bin/sh\nexit 42\n' >"$scratch/program"
    chmod 700 "$scratch/program"
    "$scratch/program" 2>/dev/null
    case $? in 42) say place_executes yes ;; *) say place_executes no ;; esac
    has flock || return
    if limited 5 flock -n "$scratch/lock" true 2>/dev/null; then
        say place_locks yes
    else
        say place_locks no
    fi
}

say_quota() {
    has quota || return
    limited 5 quota -w 2>/dev/null | head -n 20 | while read -r line; do
        say quota "$line"
    done
}

# --- scheduler, logout --------------------------------------------------------------------

say_programs() {
    for program in sbatch srun salloc squeue sacct scancel sinfo scontrol \
        qsub qstat qdel pbsnodes qconf qhost bsub bjobs bkill; do
        case $(command -v "$program" 2>/dev/null) in /*) say program "$program" ;; esac
    done
}

# As SmartSim asks; only the numbers are told, for names of jobs are nobody's business.
say_sacct() {
    has sacct || return
    said=$(limited 10 sacct --noheader -p --format=jobid 2>&1)
    status=$?
    say sacct_status "$status"
    if [ "$status" -ne 0 ]; then
        say sacct_said "$(printf '%s\n' "$said" | head -n 3)"
        return
    fi
    say sacct_jobs "$(printf '%s\n' "$said" | grep -c '^[^.]*|$')"
    say sacct_steps "$(printf '%s\n' "$said" | grep -c '[.].*|$')"
}

# The last word counts, in the order in which systemd reads its files.
say_logout() {
    [ -d /run/systemd/sessions ] && say logind yes || say logind no
    kills=
    set +f
    for file in /usr/lib/systemd/logind.conf /etc/systemd/logind.conf \
        /usr/lib/systemd/logind.conf.d/*.conf /run/systemd/logind.conf.d/*.conf \
        /etc/systemd/logind.conf.d/*.conf; do
        [ -r "$file" ] || continue
        word=$(sed -n 's/^[[:space:]]*KillUserProcesses[[:space:]]*=[[:space:]]*//p' "$file" |
            tail -n 1)
        kills=${word:-$kills}
    done
    set -f
    say kills "$kills"
    [ -e "/var/lib/systemd/linger/$(id -un)" ] && say linger yes || say linger no
}

answer() {
    say_shell
    say_programs
    say_logout
    say_quota
    say_place "$state" ""
    uid=$(id -u)
    for root in /tmp /var/tmp /dev/shm; do
        say_place "$root/smartsim-bridge-$uid" private
    done
    say_sacct
    say end yes
}
