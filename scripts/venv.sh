# Sourced by the other scripts: finds a Python, makes virtual environments, finds tools.
# Expects to be in the root of the clone.  bash only.

say() { printf '%s\n' "$*" >&2; }

# What a good command prints is noise, what a failing one prints is the reason.
quietly() {
    local log status=0
    log=$(mktemp)
    "$@" >"$log" 2>&1 || status=$?
    ((status == 0)) || cat "$log" >&2
    rm -f "$log"
    return "$status"
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 9))' >/dev/null 2>&1
}

can_make_venvs() { "$1" -c 'import venv, ensurepip' >/dev/null 2>&1; }

# The first Python on PATH that passes the named tests.
first_python() {
    local name found test
    for name in python3 python3.13 python3.12 python3.11 python3.10 python3.9; do
        while read -r found; do
            for test in "$@"; do
                "$test" "$found" || continue 2
            done
            printf '%s\n' "$found"
            return
        done < <(type -ap "$name")
    done
    return 1
}

# The interpreter for a new venv: $PYTHON, else one on PATH, better one that needs no more.
find_python() {
    if [[ -n ${PYTHON:-} ]]; then
        is_new_enough "$PYTHON" && printf '%s\n' "$PYTHON" && return
        say "PYTHON=$PYTHON is not a Python of 3.9 or newer."
        return 1
    fi
    first_python is_new_enough can_make_venvs || first_python is_new_enough && return
    say "No Python of 3.9 or newer on PATH: install one, or name it with PYTHON=/path/to/python3."
    return 1
}

is_root_with_apt() { [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; }

# Debian keeps the package lists out of its images, so install fails until they are fetched.
apt_install() {
    local try=(env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@")
    "${try[@]}" >/dev/null 2>&1 && return
    quietly apt-get update -qq && quietly "${try[@]}"
}

# sshd is in a directory that only root has on PATH.
has_sshd() {
    PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v sshd >/dev/null && command -v ssh >/dev/null
}

# Without starting any service: the tests run their own, in places of their own.
install_idle() (
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    apt_install "$@"
)

# Debian's python3 comes without ensurepip, which venv needs.
ensure_venv_module() {
    local python=$1 version
    can_make_venvs "$python" && return
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if is_root_with_apt; then
        say "Installing python$version-venv ..."
        apt_install "python$version-venv" && can_make_venvs "$python" && return
    fi
    say "$python cannot make virtual environments: its venv module is missing."
    say "On Debian and Ubuntu: apt-get install python$version-venv; or choose another with PYTHON=."
    return 1
}

# make_venv DIR WHAT: a venv in DIR with WHAT installed from this clone, editable.  One that
# is there is kept; pip runs again only when pyproject.toml has changed since, or the clone has moved.
make_venv() {
    local dir=$1 what=$2 python stamp="$1/.installed${2#.}"
    if [[ -f $stamp && ! pyproject.toml -nt $stamp && $(<"$stamp") == "$PWD" ]]; then
        return
    fi
    if [[ ! -x $dir/bin/python ]] || ! is_new_enough "$dir/bin/python"; then
        python=$(find_python)
        ensure_venv_module "$python"
        say "Making $dir with $python ..."
        quietly "$python" -m venv --clear "$dir"
    fi
    say "Installing $what into $dir ..."
    quietly "$dir/bin/python" -m pip --disable-pip-version-check install --quiet -e "$what"
    printf '%s' "$PWD" >"$stamp"
}

has_all() {
    local dir=$1 tool
    shift
    for tool in "$@"; do
        [[ -x $dir/$tool ]] || return 1
    done
}

# Puts the first place that has all the named tools in front of PATH.
use_first_with() {
    local dir place
    for place in "${VIRTUAL_ENV:+$VIRTUAL_ENV/bin}" "$PWD/.venv-dev/bin" "$PWD/.venv/bin"; do
        if [[ -n $place ]] && has_all "$place" "$@"; then
            PATH="$place:$PATH"
            return
        fi
    done
    dir=$(dirname "$(command -v "$1" || echo /nowhere/x)")
    has_all "$dir" "$@"
}
