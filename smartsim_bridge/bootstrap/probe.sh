# Asks a host what is there: directories, servers that run, Pythons.  POSIX sh.
#
# Runs in a subshell.  Expects: nonce chosen python artifact size full (all may be empty but the nonce),
# patience (seconds for the first Python), minutes (how young a heartbeat must be) and prelude_status.
# Answers with key=value lines between two marker lines; `beacon`, `neighbour` and `python` open a record
# that the lines after them belong to.  Whatever else appears on
# stdout, before, after or in between, is noise and belongs to the host, not to us.

LC_ALL=C
set -f
# A start-up file may have emptied it; here it serves our own tools only.
PATH=${PATH:+$PATH:}/usr/bin:/bin

say() {
    case $2 in
        *[![:print:]]*)
            printf '%s %s=' "$nonce" "$1"
            printf '%s' "$2" | tr '[:cntrl:]' ' '
            echo
            ;;
        *) printf '%s %s=%s\n' "$nonce" "$1" "$2" ;;
    esac
}

# Leaves the beginning of a file in `text`: more than 16 KiB is no beacon, and a state
# directory may hold anything.
read_file() {
    { text=$(dd bs=16400 count=1 <"$1"); } 2>/dev/null
}

is_ours() {
    [ -O "$1" ] && [ ! -L "$1" ]
}

is_number() {
    case $1 in '' | *[!0-9]* | ??????????????????*) return 1 ;; esac
}

say_host() {
    set -- $(uname -snm)
    host=$2
    say system "$1"
    say host "$2"
    say arch "$3"
    boot_id=
    [ -r /proc/sys/kernel/random/boot_id ] && read -r boot_id </proc/sys/kernel/random/boot_id
    say boot_id "$boot_id"
    uid=$(id -u)
    say uid "$uid"
    say user "${USER:-${LOGNAME:-$(id -un)}}"
    say home "$HOME"
    say ssh_connection "${SSH_CONNECTION:-}"
    say prelude_status "$prelude_status"
}

# --- directories --------------------------------------------------------------------------

choose_state() {
    state=${chosen:-${SMARTSIM_BRIDGE_STATE_DIR:-${HOME%/}/.local/state/smartsim-bridge}}
    case $state in
        /*) ;;
        '~/'*) state=${HOME%/}/${state#??} ;;
        *) state=${HOME%/}/$state ;;
    esac
}

# Whether the directory, or the nearest one above that exists, lets us write.
can_have() {
    nearest=$1
    while [ ! -e "$nearest" ] && [ -n "$nearest" ]; do nearest=${nearest%/*}; done
    [ -d "${nearest:-/}" ] && [ -w "${nearest:-/}" ] && [ -x "${nearest:-/}" ]
}

# The state directory, and the ones that are taken where it cannot be written: a server that
# had to go there stays there when the home is well again.
say_directories() {
    choose_state
    say state_dir "$state"
    if can_have "$state"; then say state_writable yes; else say state_writable no; fi
    say_directory "$state"
    for directory in "/var/tmp/smartsim-bridge-$uid" "/tmp/smartsim-bridge-$uid"; do
        [ "$directory" != "$state" ] && [ -d "$directory" ] && is_ours "$directory" &&
            say_directory "$directory"
    done
}

say_directory() {
    say_servers "$1/servers"
    file=$1/far/$artifact
    [ -n "$artifact" ] && [ -f "$file" ] && is_ours "$file" || return
    [ "$(($(wc -c <"$file")))" = "$size" ] && say artifact "$file"
}

# --- servers ------------------------------------------------------------------------------

found_live=no

# Those of this host are judged by their process; of other hosts nothing is known but the age
# of the heartbeat.
say_servers() {
    [ -d "$1" ] || return 0
    name=$host
    case $host in *[!A-Za-z0-9._-]*) name=$(printf %s "$host" | tr -c 'A-Za-z0-9._-' _) ;; esac
    others=no
    set +f
    for beacon in "$1"/*.json; do
        set -f
        if is_of_this_host "${beacon##*/}"; then
            [ -f "$beacon" ] && is_ours "$beacon" && say_server "$beacon"
        elif [ -f "$beacon" ]; then
            others=yes
        fi
    done
    set -f
    [ "$others" = no ] || say_neighbours "$1"
}

# HOST-BOOT.json; `login-1` is another host than `login`, and a boot has no dash in its digits.
is_of_this_host() {
    case $1 in "$name"-*) ;; *) return 1 ;; esac
    case ${1#"$name"-} in *-*) return 1 ;; esac
}

# The youngest first.  Without a `find` that knows minutes there are none.
say_neighbours() {
    young=$(find "$1" -type f -name '*.json' -mmin "-$minutes" 2>/dev/null) || return 0
    [ -n "$young" ] || return 0
    count=0
    before=$IFS
    IFS='
'
    for file in $(ls -t "$1"); do
        beacon=$1/$file
        case "
$young
" in *"
$beacon
"*) ;; *) continue ;; esac
        is_of_this_host "$file" || ! is_ours "$beacon" && continue
        count=$((count + 1))
        [ "$count" -le 8 ] || break
        say neighbour "$beacon"
        read_file "$beacon"
        say neighbour_text "$text"
        key=${beacon%.json}.key
        [ -f "$key" ] && is_ours "$key" && read_file "$key" && say neighbour_key "$text"
    done
    IFS=$before
}

say_server() {
    say beacon "$1"
    read_file "$1"
    say beacon_text "$text"
    say_process "$text"
    key=${1%.json}.key
    [ -f "$key" ] && is_ours "$key" && read_file "$key" && say beacon_key "$text"
}

# Whether the process of this beacon lives; a pid may since belong to another.
say_process() {
    pid=$(number_in "$1" pid)
    if ! is_number "$pid" || [ "$pid" -le 1 ] || ! kill -0 "$pid" 2>/dev/null || is_zombie; then
        say beacon_alive no
        return
    fi
    start=$(start_of_it)
    say beacon_alive yes
    say beacon_start "$start"
    case $1 in
        *"\"boot_id\":\"$boot_id\""*)
            [ "$start" = "$(number_in "$1" pid_start)" ] && found_live=yes ;;
    esac
}

number_in() {
    case $1 in *"\"$2\":"*) ;; *) return ;; esac
    set -- "${1#*"\"$2\":"}"
    echo "${1%%[!0-9]*}"
}

# Leaves what /proc/$pid/stat says behind the program's name in `stat`.  The name stands in
# parentheses, and may itself hold spaces and parentheses.
read_stat() {
    { read -r stat <"/proc/$pid/stat"; } 2>/dev/null || return
    stat=${stat##*")" }
}

# Dead, but nobody has asked for its status yet: where init does not, it stays so for ever.
is_zombie() {
    read_stat && case $stat in [ZX]*) ;; *) false ;; esac
}

# Field 22 of the whole line, in clock ticks since boot.
start_of_it() {
    read_stat || return
    set -- $stat
    [ $# -ge 20 ] || return
    shift 19
    echo "$1"
}

# --- Pythons ------------------------------------------------------------------------------

# Understood by Python 2 as well.  The directory we are in must not lend it modules.
# Its argument: directories with a pyzmq that we brought, tried where none is installed that
# will do.  Its exit status: 0 can do everything, 3 can serve without ZMQ, 4 is too old.
question='import sys
if sys.path and sys.path[0] == "":
    del sys.path[0]
version = ".".join(str(part) for part in sys.version_info[:3])
zmq, why, site, build, status = "", "", "", "", 4
def load():
    import zmq as module
    if not module.has("curve"):
        raise ImportError("pyzmq was built without CURVE")
    if module.zmq_version_info() < (4, 3, 5):
        raise ImportError("libzmq %s is too old" % module.zmq_version())
    return module.__version__
def load_from(place):
    for name in [name for name in sys.modules if name.split(".")[0] == "zmq"]:
        del sys.modules[name]
    sys.path.insert(0, place)
    try:
        return load()
    except Exception:
        del sys.path[0]
def describe():
    import os, platform, sysconfig
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, ValueError):
        libc = "macos " + platform.mac_ver()[0]
    abi, where = sysconfig.get_config_var("SOABI"), sysconfig.get_platform()
    bits = 64 if sys.maxsize > 2 ** 32 else 32
    return "%s,%s,%s,%s,%s" % (abi, where, os.uname()[4], bits, libc)
if sys.version_info >= (3, 9):
    status = 3
    try:
        zmq, status = load(), 0
    except Exception as error:
        why = (str(error) or type(error).__name__).replace("\n", " ").replace("|", " ")
        for place in sys.argv[1].split("\n")[:-1]:
            zmq = load_from(place) or ""
            if zmq:
                site, status = place, 0
                break
        try:
            build = describe()
        except Exception:
            pass
sys.stdout.write("\nPYTHON|%s|%s|%s|%s|%s|\n" % (version, zmq, why, site, build))
sys.stdout.flush()
sys.exit(status)'

newline='
'

# Leaves in `sites` each directory with a pyzmq that an earlier client brought, a line each.
find_sites() {
    sites=
    for root in "$state" "/var/tmp/smartsim-bridge-$uid" "/tmp/smartsim-bridge-$uid"; do
        # In /tmp anybody may have made one of that name.
        [ "$root" = "$state" ] || is_ours "$root" || continue
        set +f
        for site in "$root"/far/pyzmq-*; do
            [ -d "$site" ] && is_ours "$site" && sites=$sites$site$newline
        done
        set -f
    done
}

seen=:

# Tries one; 0 where the search may end with it.
try_python() {
    found=$(command -v "$1" 2>/dev/null) || return 1
    case $found in /*) ;; *) return 1 ;; esac
    case $seen in *":$found:"*) return 1 ;; esac
    seen=$seen$found:
    said=$(ask_python "$found" 2>&1)
    ended=$?
    say python "$found"
    say python_status "$ended"
    say python_said "$said"
    case $ended in 124 | 137) patience=$(((patience + 1) / 2)) ;; esac
    return "$ended"
}

# A Python on a file system that hangs does so before its first line of ours, so it cannot
# limit itself.  The next one gets half the time: a search through what hangs has an end too.
ask_python() {
    if ! command -v timeout >/dev/null; then
        "$1" -c "$question" "$sites"
        return
    fi
    timeout -k 1 "$patience" "$1" -c "$question" "$sites"
    ended=$?
    case $ended in 124 | 137) echo "did not answer within $patience s" ;; esac
    return "$ended"
}

say_pythons() {
    find_sites
    case $python in
        '~/'*) python=${HOME%/}/${python#??} ;;
    esac
    if [ -n "$python" ]; then
        try_python "$python"
        return
    fi
    # A session without a terminal has no `conda activate`, so its usual places are tried too;
    # not /opt and its like: which Python is meant there only the modules of the site know.
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 \
        /usr/bin/python3 /usr/libexec/platform-python "${HOME%/}/.local/bin/python3" python \
        "${HOME%/}/miniforge3/bin/python3" "${HOME%/}/miniconda3/bin/python3" \
        "${HOME%/}/mambaforge/bin/python3" "${HOME%/}/anaconda3/bin/python3"; do
        try_python "$candidate" && return
    done
}

answer() {
    printf '\n%s-BEGIN\n' "$nonce"
    say_host
    say_directories
    if [ "$found_live" = no ] || [ -n "$full" ]; then
        say searched yes
        say_pythons
    else
        say searched no
    fi
    printf '%s-END\n' "$nonce"
}
