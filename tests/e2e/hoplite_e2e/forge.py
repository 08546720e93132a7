"""Certificates that `hoplite certs` refuses to make: expired, of two names, of other domains.

Signed by an Authority's CA, through the openssl command. Not for what `certs issue` can do.
"""

import datetime
import subprocess

from .certs import Identity
from .deadline import poll_until, seconds
from .raw import Closed

_CA = """
[ca]
default_ca = it
[it]
new_certs_dir = .
database = index.txt
serial = serial.txt
default_md = sha256
policy = any
unique_subject = no
copy_extensions = none
[any]
organizationName = optional
commonName = optional
"""


def ago(**delta):
    """The time so long ago; negative values are in the future."""
    return datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(**delta)


def short_lived(forge, uri, connect):
    """connect(identity) with a certificate that was good then and has expired by now."""
    for lifetime in (5, 20, 80):
        end = ago(seconds=-lifetime).replace(microsecond=0)
        try:
            made = connect(forge.issue(uri, not_after=end))
        except (Closed, OSError):
            assert ago() >= end  # too slow a machine for that one
            continue
        poll_until(lambda: ago(seconds=1) > end, "the certificate to expire", lifetime)
        return made
    raise AssertionError("no certificate lasted long enough to connect with")


class Forge:
    def __init__(self, authority, folder):
        folder.mkdir()
        self._authority = authority
        self._folder = folder
        self._count = 0
        (folder / "index.txt").write_text("")
        (folder / "serial.txt").write_text("1000\n")
        (folder / "ca.cnf").write_text(_CA)

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *[str(a) for a in arguments]], check=True, cwd=self._folder,
                       timeout=seconds(), stdin=subprocess.DEVNULL, capture_output=True)

    def issue(self, *uris, dns=(), not_before=None, not_after=None, subject="/O=hoplite tests",
              usage="serverAuth, clientAuth", paths=None):
        """An Identity whose certificate has these URI SANs.

        `paths`: (certificate, key) to write to instead of new files, the key first.
        """
        self._count += 1
        name = f"forged-{self._count}"
        cert, key = paths or (self._folder / f"{name}.pem", self._folder / f"{name}-key.pem")
        sans = [f"URI:{uri}" for uri in uris] + [f"DNS:{name}" for name in dns]
        extensions = [f"extendedKeyUsage = {usage}", "keyUsage = critical, digitalSignature"]
        if sans:
            extensions.append("subjectAltName = " + ", ".join(sans))
        (self._folder / f"{name}.ext").write_text("\n".join(extensions) + "\n")
        request, made = self._folder / f"{name}.csr", self._folder / f"{name}.made"
        fresh_key = self._folder / f"{name}.key"
        self._openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                      "-nodes", "-keyout", fresh_key, "-subj", subject, "-out", request)
        form = "%Y%m%d%H%M%SZ"
        self._openssl("ca", "-batch", "-notext", "-config", self._folder / "ca.cnf",
                      "-cert", self._authority.ca, "-keyfile", self._authority.ca_key,
                      "-startdate", (not_before or ago(hours=1)).strftime(form),
                      "-enddate", (not_after or ago(days=-1)).strftime(form),
                      "-extfile", self._folder / f"{name}.ext", "-in", request, "-out", made)
        key.write_bytes(fresh_key.read_bytes())
        cert.write_bytes(made.read_bytes())
        return Identity(self._authority, cert, key, uris[0] if uris else "")

    def issue_chained(self, uri):
        """An Identity that an intermediate of the CA signed; its file has the chain."""
        leaf = self._folder / "chained"
        (self._folder / "middle.ext").write_text(
            "basicConstraints = critical, CA:true, pathlen:0\n"
            "keyUsage = critical, keyCertSign\nsubjectKeyIdentifier = hash\n")
        (self._folder / "leaf.ext").write_text(
            f"subjectAltName = URI:{uri}\nkeyUsage = critical, digitalSignature\n"
            "extendedKeyUsage = clientAuth, serverAuth\n")

        def make(name, subject, ca, ca_key, extensions):
            self._openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                          "-nodes", "-keyout", f"{name}-key.pem", "-subj", subject,
                          "-out", f"{name}.csr")
            self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", ca, "-CAkey", ca_key,
                          "-CAcreateserial", "-days", "1", "-extfile", extensions,
                          "-out", f"{name}.pem")

        make("middle", "/CN=intermediate", self._authority.ca, self._authority.ca_key, "middle.ext")
        make("leaf", "/CN=leaf", "middle.pem", "middle-key.pem", "leaf.ext")
        cert = leaf.with_suffix(".pem")
        cert.write_bytes((self._folder / "leaf.pem").read_bytes() +
                         (self._folder / "middle.pem").read_bytes())
        return Identity(self._authority, cert, self._folder / "leaf-key.pem", uri)
