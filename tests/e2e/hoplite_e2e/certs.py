"""Certificates for tests, made by `hoplite certs`. Not the bad ones that it refuses to make."""

import subprocess

from .deadline import seconds


class Authority:
    """A throw-away CA in `folder`."""

    def __init__(self, binary, folder, trust_domain="cluster.local"):
        self._binary = binary
        self._folder = folder
        self.trust_domain = trust_domain
        self._run("certs", "init", "--dir", folder, "--trust-domain", trust_domain)
        self.ca = folder / "ca.pem"
        self.ca_key = folder / "ca-key.pem"

    def _run(self, *arguments):
        subprocess.run([str(a) for a in (self._binary, *arguments)], check=True,
                       timeout=seconds(), stdin=subprocess.DEVNULL)

    def issue(self, namespace, service_account):
        """An Identity with the certificate of this workload."""
        name = f"{namespace}-{service_account}"
        self._run("certs", "issue", "--dir", self._folder, "--trust-domain", self.trust_domain,
                  "--namespace", namespace, "--service-account", service_account, "--name", name)
        return Identity(self, self._folder / f"{name}.pem", self._folder / f"{name}-key.pem",
                        f"spiffe://{self.trust_domain}/ns/{namespace}/sa/{service_account}")


class Identity:
    def __init__(self, authority, cert, key, principal):
        self.authority = authority
        self.cert = cert
        self.key = key
        self.principal = principal

    def mtls(self, mode="strict", **more):
        """The `mtls` section of a configuration with this identity."""
        return {"mode": mode, "cert": str(self.cert), "key": str(self.key),
                "ca": str(self.authority.ca), "trust_domain": self.authority.trust_domain, **more}
