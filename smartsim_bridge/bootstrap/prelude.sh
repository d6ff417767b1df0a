# Makes a shell ours, and runs the user's prelude in it, so that what it loads stays.
# POSIX sh.  Expects: nonce spare prelude, and in ssb_lines what is left of the lines that were sent
# first.  Says that it is there.  Leaves: prelude_status.

exec 2>&1
# A shell may get options and functions out of the environment (SHELLOPTS, `export -f`).
set +aefuvxC
unset -f cd command dd echo id kill printf read test tr unalias uname wc
unalias -a
unset IFS
if [ "$ssb_lines" != "$spare" ]; then
    printf '\n%s-EATEN.' "$nonce"
    exit
fi
unset ssb_lines spare
printf '\n%s-HERE.' "$nonce"

# A shell without a terminal has read no profile, so `module` may be known to nobody.
define_module() {
    command -v module && return
    for init in "${MODULESHOME:-}/init/sh" "${LMOD_PKG:-}/init/sh" \
        /etc/profile.d/z00_lmod.sh /etc/profile.d/lmod.sh /etc/profile.d/modules.sh \
        /usr/share/lmod/lmod/init/sh /usr/share/modules/init/sh /usr/share/Modules/init/sh; do
        [ -r "$init" ] && . "$init" && command -v module && return
    done
}

prelude_status=
if [ -n "$prelude" ]; then
    case $prelude in *module*) define_module >/dev/null 2>&1 </dev/null ;; esac
    eval "$prelude" </dev/null
    prelude_status=$?
    # It may have been strict, traced itself, or read somebody's aliases; what follows expects
    # a shell as it comes.
    set +aefuvxC
    unalias -a
    unset IFS
fi
