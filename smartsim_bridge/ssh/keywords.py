"""Every keyword of ssh_config, and what becomes of it here: pure data.

Three classes.  A keyword is *honoured*; or it is *harmless*, because it changes neither
whom we talk to, nor who we are, nor what is verified; or we *cannot* honour it, and then
`ssh_config` refuses every value but those that change nothing.  A test holds the table
against the system's ssh, and the reference is drawn from it.  Knows no file and no host.
"""

from __future__ import annotations

__all__ = ["ALIASES", "CANNOT", "COMMANDS", "FLAGS", "HARMLESS", "HONOURED", "LISTS", "name_of"]

# What we do with it.
HONOURED = {
    "Host": "patterns, `!`",
    "Match": "all, final, canonical, host, originalhost, user, localuser, exec",
    "Include": "relative names, globs, `~`; no variables and tokens",
    "AddressFamily": "",
    "BatchMode": "nobody is asked anything",
    "BindAddress": "",
    "Ciphers": "as a restriction of ours",
    "GlobalKnownHostsFile": "",
    "HashKnownHosts": "",
    "HostKeyAlgorithms": "as a restriction of ours, and their order",
    "HostKeyAlias": "",
    "HostName": "",
    "IdentitiesOnly": "",
    "IdentityAgent": "",
    "IdentityFile": "",
    "IgnoreUnknown": "",
    "KbdInteractiveAuthentication": "",
    "KexAlgorithms": "as a restriction of ours",
    "MACs": "as a restriction of ours",
    "PasswordAuthentication": "",
    "Port": "",
    "PreferredAuthentications": "",
    "ProxyCommand": "",
    "ProxyJump": "chains; each host by its own configuration",
    "PubkeyAcceptedAlgorithms": "as a restriction of ours",
    "PubkeyAuthentication": "",
    "StrictHostKeyChecking": "`yes`: nobody is asked about an unknown key; every other value is "
    "laxer than `host_keys=`, which decides",
    "User": "",
    "UserKnownHostsFile": "",
}

_SESSION = "is for a person's session"
_PATIENCE = "`timeout=` bounds the whole connect"
_ALIVE = "the connection has keepalives of its own"
_FORWARDING = "nothing is forwarded but the server's port"
_CERTIFICATES = "host certificates are not taken, see known_hosts"
_CANONICAL = "only for CanonicalizeHostname, which is refused"
_KERBEROS = "only for Kerberos, which is not spoken"
_HOSTBASED = "only for HostbasedAuthentication, which is refused"
_MASTER = "the connection is one and our own"
_LOOKS = "changes only what ssh prints"
_GONE = "ssh itself passes over it"

# Why it makes no difference.
HARMLESS = {
    "AddKeysToAgent": "no key is added to an agent",
    "CanonicalDomains": _CANONICAL,
    "CanonicalizeFallbackLocal": _CANONICAL,
    "CanonicalizeMaxDots": _CANONICAL,
    "CASignatureAlgorithms": _CERTIFICATES,
    "ChannelTimeout": _SESSION,
    "ClearAllForwardings": _FORWARDING,
    "Compression": "frames are small; nothing depends on it",
    "ConnectionAttempts": _PATIENCE,
    "ConnectTimeout": _PATIENCE,
    "ControlMaster": _MASTER,
    "ControlPath": "a live master there is used, by the system's ssh",
    "ControlPersist": _MASTER,
    "DynamicForward": _FORWARDING,
    "EnableEscapeCommandline": _SESSION,
    "EnableSSHKeysign": _HOSTBASED,
    "EscapeChar": _SESSION,
    "ExitOnForwardFailure": _FORWARDING,
    "FingerprintHash": _LOOKS,
    "ForkAfterAuthentication": _SESSION,
    "ForwardAgent": "the server outlives the connection that an agent would need",
    "ForwardX11": _FORWARDING,
    "ForwardX11Timeout": _FORWARDING,
    "ForwardX11Trusted": _FORWARDING,
    "GatewayPorts": _FORWARDING,
    "GSSAPIAuthentication": "without a Kerberos ticket ssh, too, goes on to keys",
    "GSSAPIClientIdentity": _KERBEROS,
    "GSSAPIDelegateCredentials": "no ticket is forwarded, by neither engine",
    "GSSAPIKexAlgorithms": _KERBEROS,
    "GSSAPIRenewalForcesRekey": _KERBEROS,
    "GSSAPIServerIdentity": _KERBEROS,
    "GSSAPITrustDns": _KERBEROS,
    "HostbasedAcceptedAlgorithms": _HOSTBASED,
    "IPQoS": "a hint to routers",
    "KbdInteractiveDevices": "the host chooses",
    "LocalCommand": _SESSION,
    "LocalForward": _FORWARDING,
    "LogLevel": _LOOKS,
    "LogVerbose": _LOOKS,
    "NoHostAuthenticationForLocalhost": "every host is verified",
    "NumberOfPasswordPrompts": "each is asked for once",
    "ObscureKeystrokeTiming": _SESSION,
    "PermitLocalCommand": _SESSION,
    "PermitRemoteOpen": _FORWARDING,
    "RekeyLimit": "keys are renewed by paramiko's own limits",
    "RemoteCommand": "our own commands are run",
    "RemoteForward": _FORWARDING,
    "RequestTTY": _SESSION,
    "SecurityKeyProvider": "identities on security keys are refused",
    "SendEnv": "commands get the environment of the head; see `keep_env`",
    "ServerAliveCountMax": _ALIVE,
    "ServerAliveInterval": _ALIVE,
    "SessionType": "our own commands are run",
    "StdinNull": _SESSION,
    "StreamLocalBindMask": _FORWARDING,
    "StreamLocalBindUnlink": _FORWARDING,
    "SyslogFacility": _LOOKS,
    "Tag": "only for `Match tagged`, which is refused",
    "TCPKeepAlive": _ALIVE,
    "Tunnel": _FORWARDING,
    "TunnelDevice": _FORWARDING,
    "UpdateHostKeys": "known_hosts gets only keys that were accepted",
    "UseKeychain": "macOS; no passphrase is taken from the keychain",
    "VersionAddendum": _LOOKS,
    "VisualHostKey": _LOOKS,
    "WarnWeakCrypto": _LOOKS,
    "XAuthLocation": _FORWARDING,
    **dict.fromkeys(
        (
            "AFSTokenPassing",
            "Cipher",
            "CompressionLevel",
            "FallBackToRsh",
            "GlobalKnownHostsFile2",
            "KerberosAuthentication",
            "KerberosTgtPassing",
            "Protocol",
            "RhostsAuthentication",
            "RhostsRSAAuthentication",
            "RSAAuthentication",
            "UseBlacklistedKeys",
            "UsePrivilegedPort",
            "UserKnownHostsFile2",
            "UseRoaming",
            "UseRsh",
        ),
        _GONE,
    ),
}

# The values that change nothing, and why every other one is refused.
CANNOT: dict[str, tuple[tuple[str, ...], str]] = {
    "BindInterface": (("none",), "paramiko's socket is bound to addresses only"),
    "CanonicalizeHostname": (("no", "false", "none"), "it changes whom we talk to"),
    "CanonicalizePermittedCNAMEs": (("none",), "it changes whom we talk to"),
    "CertificateFile": (("none",), "paramiko does not pair certificates with keys"),
    "CheckHostIP": (("no", "false"), "addresses are not looked up in known_hosts"),
    "GSSAPIKeyExchange": (("no", "false"), "Kerberos is not spoken"),
    "HostbasedAuthentication": (("no", "false"), "it needs ssh-keysign"),
    "KnownHostsCommand": (("none",), "host keys are read from files only"),
    "PKCS11Provider": (("none",), "keys are taken from files and the agent only"),
    "ProxyUseFdpass": (("no", "false"), "a proxy is spoken to through its pipes"),
    "RefuseConnection": ((), "ssh ends there"),
    "RequiredRSASize": (("1024",), "the sizes of keys are not looked at"),
    "RevokedHostKeys": (("none",), "revocation lists are not read"),
    "SetEnv": ((), "the sessions' environment is the head's own"),
    "VerifyHostKeyDNS": (("no", "false", "ask"), "fingerprints in the DNS are not asked for"),
}

# Other names of the same.
ALIASES = {
    "challengeresponseauthentication": "kbdinteractiveauthentication",
    "dsaauthentication": "pubkeyauthentication",
    "hostbasedkeytypes": "hostbasedacceptedalgorithms",
    "identityfile2": "identityfile",
    "keepalive": "tcpkeepalive",
    "protocolkeepalives": "serveraliveinterval",
    "pubkeyacceptedkeytypes": "pubkeyacceptedalgorithms",
    "rsaminsize": "requiredrsasize",
    "setuptimeout": "serveraliveinterval",
    "skeyauthentication": "kbdinteractiveauthentication",
    "smartcarddevice": "pkcs11provider",
    "tisauthentication": "kbdinteractiveauthentication",
}

# The rest of the line belongs to a shell: quotes and '#' in it are not ours.
COMMANDS = ("proxycommand", "knownhostscommand", "localcommand", "remotecommand")

# Honoured ones that take several words; all the others take one.
LISTS = ("host", "match", "include", "userknownhostsfile", "globalknownhostsfile")

# Honoured ones that are yes or no.
FLAGS = (
    "batchmode",
    "hashknownhosts",
    "identitiesonly",
    "kbdinteractiveauthentication",
    "passwordauthentication",
)

_NAMES = {name.lower(): name for table in (HONOURED, HARMLESS, CANNOT) for name in table}


def name_of(keyword: str) -> str | None:
    """The keyword as the manual spells it, by its name in lower case; None: not known."""
    return _NAMES.get(ALIASES.get(keyword, keyword))
