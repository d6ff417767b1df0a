# Runs the user's prelude before everything else, in this shell, so that what it loads stays.
# POSIX sh.  Expects: prelude.  Leaves: prelude_status.

# A shell without a terminal has read no profile, so `module` may be known to nobody.
define_module() {
    command -v module && return
    for init in "${MODULESHOME:-}/init/sh" "${LMOD_PKG:-}/init/sh" \
        /etc/profile.d/z00_lmod.sh /etc/profile.d/lmod.sh /etc/profile.d/modules.sh \
        /usr/share/lmod/lmod/init/sh /usr/share/modules/init/sh /usr/share/Modules/init/sh; do
        [ -r "$init" ] && . "$init" && command -v module && return
    done
}

umask 077
prelude_status=
if [ -n "$prelude" ]; then
    case $prelude in *module*) define_module >/dev/null 2>&1 </dev/null ;; esac
    eval "$prelude" >&2 </dev/null
    prelude_status=$?
    # It may have been strict, or traced itself; what follows expects neither.
    set +e +u +x
fi
