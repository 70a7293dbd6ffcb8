# What is measured, and what Gatepost has to reach.
#
# A figure is one mode of the load generator with its options, in a quick and a serious size, and
# the number of its report that counts. Less is better, always.
# SPDX-License-Identifier: Apache-2.0
"""The benchmark's figures and targets."""

from dataclasses import dataclass, field

MIB = 1024 * 1024


@dataclass(frozen=True)
class Figure:
    name: str
    title: str
    unit: str
    mode: str
    key: str = "cpu_us_per_operation"
    scale: float = 1.0
    protocol: str = "imap"
    starttls: bool = False
    login: bool = True  # the password-file variant is worth a column
    options: tuple = ()
    quick: tuple = ()
    serious: tuple = ()
    fresh: bool = False  # the proxy is restarted before: memory
    far: bool = False  # the backend is FAR_MS away
    rsa: bool = False  # needs the RSA certificate, whatever the command line says
    also: tuple = ()  # further numbers for the table: (key, title, scale)

    @property
    def tls(self):
        return "starttls" if self.starttls else "implicit"


@dataclass(frozen=True)
class Target:
    """`figure` must be at most `must`: times `than`'s figure, or in absolute numbers."""
    figure: str
    must: float
    stretch: float | None = None
    than: str = ""  # a peer; "" with no other: an absolute number
    other: str = ""  # another figure of Gatepost's
    key: str = ""  # instead of the figure's own
    scale: float = 1.0
    title: str = field(default="")
    library: str = ""  # "new", "old": for a build with such a BoringSSL alone; "": for any

    def applies(self, kind):
        """Whether it is meant for such a build and certificate: `kind` is Results.kind."""
        of_handshakes = self.than and self.figure in HANDSHAKES
        return self.library in ("", kind["library"]) and \
            not (of_handshakes and kind["certificate"] == "rsa")


# A round trip to the far backend: every figure in units of it is a number of round trips.
FAR_MS = 20

SESSIONS = {"quick": ("--operations", "600", "--connections", "32"),
            "serious": ("--operations", "4000", "--connections", "32")}
BULK = {"quick": ("--operations", "16", "--bytes", str(16 * MIB), "--connections", "4"),
        "serious": ("--operations", "48", "--bytes", str(32 * MIB), "--connections", "4")}
LATENCY = (("login_p50_ms", "p50 ms", 1.0), ("login_p99_ms", "p99 ms", 1.0))
PER_GIB = 1e-6  # CPU-µs to CPU-s
KIB = 1 / 1024

FIGURES = [
    Figure("handshake", "full handshake, greeting, logout", "CPU-µs", "handshake", login=False,
           **SESSIONS),
    Figure("handshake-resumed", "resumed handshake, greeting, logout", "CPU-µs", "handshake",
           login=False, options=("--resume",), **SESSIONS),
    Figure("starttls", "IMAP STARTTLS, full handshake, logout", "CPU-µs", "handshake",
           starttls=True, login=False, **SESSIONS),
    Figure("starttls-resumed", "IMAP STARTTLS, resumed, logout", "CPU-µs", "handshake",
           starttls=True, login=False, options=("--resume",), **SESSIONS),
    Figure("login-imaps", "IMAPS session: login, logout", "CPU-µs", "login", **SESSIONS),
    Figure("login-imap", "IMAP STARTTLS session", "CPU-µs", "login", starttls=True, **SESSIONS),
    Figure("login-pop3s", "POP3S session", "CPU-µs", "login", protocol="pop3", **SESSIONS),
    Figure("login-submission", "submission session (STARTTLS)", "CPU-µs", "login",
           protocol="smtp", starttls=True, **SESSIONS),
    Figure("latency", "IMAPS login at 300/s, p50", "ms", "rate", key="login_p50_ms",
           quick=("--rate", "300", "--seconds", "2"), serious=("--rate", "300", "--seconds", "8"),
           also=(("login_p99_ms", "p99 ms", 1.0),)),
    Figure("download", "download, IMAP FETCH", "CPU-s/GiB", "download", scale=PER_GIB,
           login=False, **BULK),
    Figure("download-pop3", "download, POP3 RETR", "CPU-s/GiB", "download", scale=PER_GIB,
           protocol="pop3", login=False, **BULK),
    Figure("upload", "upload, IMAP APPEND", "CPU-s/GiB", "upload", scale=PER_GIB, login=False,
           **BULK),
    Figure("upload-data", "upload, SMTP DATA", "CPU-s/GiB", "upload", scale=PER_GIB,
           protocol="smtp", login=False, **BULK),
    Figure("upload-bdat", "upload, SMTP BDAT", "CPU-s/GiB", "upload", scale=PER_GIB,
           protocol="smtp", login=False, options=("--chunking",), **BULK),
    Figure("noop", "small round trip (NOOP)", "CPU-µs", "noop", login=False,
           quick=("--operations", "20000", "--connections", "8"),
           serious=("--operations", "100000", "--connections", "8"),
           also=(("round_trip_p50_ms", "p50 ms", 1.0), ("round_trip_p99_ms", "p99 ms", 1.0))),
    Figure("idle", "idle session, PSS", "KiB", "idle", key="pss_per_session", scale=KIB,
           login=False, fresh=True, quick=("--levels", "300,1500"),
           serious=("--levels", "500,4500"),
           also=(("pss_base", "base MB", 1e-6), ("pss_warm", "after the first sessions MB", 1e-6),
                 ("pss_after", "after a mass disconnect MB", 1e-6),
                 ("holding_cpu_ms_per_minute", "CPU-ms/min", 1.0))),
    Figure("prehandshake", "connection that sends nothing, PSS", "KiB", "prehandshake",
           key="pss_per_session", scale=KIB, login=False, fresh=True,
           quick=("--levels", "300,1500"), serious=("--levels", "500,4500")),
    Figure("stalled-client", "client that takes nothing, PSS", "KiB", "stalled-client",
           key="pss_per_session", scale=KIB, login=False, fresh=True,
           options=("--bytes", str(64 * MIB), "--connections", "50"),
           quick=("--seconds", "1"), serious=("--seconds", "3"),
           also=(("stalled_cpu_us_per_second", "CPU-µs/s", 1.0),)),
    Figure("stalled-backend", "backend that takes nothing, PSS", "KiB", "stalled-backend",
           key="pss_per_session", scale=KIB, login=False, fresh=True,
           options=("--bytes", str(64 * MIB), "--connections", "50"),
           quick=("--seconds", "1"), serious=("--seconds", "3")),
    Figure("storm", "round trip p99 beside 32 RSA handshakes", "ms", "storm", key="storm_p99_ms",
           login=False, rsa=True, options=("--connections", "16"),
           quick=("--seconds", "2"), serious=("--seconds", "6"),
           also=(("quiet_p99_ms", "alone p99 ms", 1.0), ("storm_p50_ms", "p50 ms", 1.0))),
    *(Figure(f"far-{name}", f"{title} login, backend {FAR_MS} ms away, p50", "ms", "rate",
             key="login_p50_ms", protocol=protocol, login=False, far=True,
             quick=("--rate", "20", "--seconds", "3"), serious=("--rate", "20", "--seconds", "10"),
             also=(("login_min_ms", "the fastest, in round trips", 1 / FAR_MS),
                   ("login_p99_ms", "p99 ms", 1.0)))
      for name, title, protocol in (("imaps", "IMAPS", "imap"), ("pop3s", "POP3S", "pop3"),
                                    ("smtps", "SMTPS", "smtp"))),
    Figure("churn", "connect and close, no byte", "CPU-µs", "churn", login=False,
           quick=("--operations", "2000", "--connections", "16"),
           serious=("--operations", "10000", "--connections", "16")),
]

MAIL_LOGINS = ("login-imaps", "login-imap", "login-pop3s", "login-submission")

HANDSHAKES = ("handshake", *MAIL_LOGINS)  # an RSA signature would be most of it

TARGETS = [
    Target("handshake", 0.60, 0.50, than="haproxy", library="new"),
    Target("handshake", 0.65, 0.50, than="nginx-stream", library="new"),
    *(Target(name, 0.62, 0.50, than="nginx-mail", library="new") for name in MAIL_LOGINS),
    *(Target(name, 0.40, None, than="dovecot", library="new") for name in MAIL_LOGINS),
    *(Target("latency", 1.0, 0.9, than=peer)
      for peer in ("haproxy", "nginx-stream", "nginx-mail", "dovecot", "hitch")),
    Target("download", 0.38, 0.27, than="haproxy", library="new"),
    Target("upload", 0.58, 0.46, than="haproxy", library="new"),
    Target("noop", 0.85, 0.79, than="haproxy", library="new"),
    Target("handshake", 0.70, than="haproxy", library="old"),
    Target("download", 0.70, than="haproxy", library="old"),
    Target("upload", 0.85, than="haproxy", library="old"),
    Target("noop", 0.88, than="haproxy", library="old"),
    Target("upload-data", 1.10, 1.03, other="upload"),
    Target("upload-bdat", 1.10, 1.03, other="upload"),
    Target("idle", 4.5, 2.5, title="idle session, KiB"),
    Target("idle", 8.0, 4.0, key="pss_base", scale=1e-6, title="base PSS, MB"),
    Target("idle", 1.10, None, key="after_ratio",
           title="PSS after a mass disconnect / after the first sessions"),
    Target("prehandshake", 1.2, 0.8, title="connection that sends nothing, KiB"),
    Target("storm", 1.6, 1.0, title="p99 beside a storm, ms"),
]
