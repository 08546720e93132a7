"""Two pods with sidecars and one without, on a node that knows the services' addresses.

The node translates them as kube-proxy does (DNAT), for whatever is not taken by a sidecar. Pods are
network namespaces. Not what the sidecars are configured to do: that is each test's matter.
"""

import contextlib
import smtplib
import socket

from . import pods
from .topology import HOST

# Service addresses. NODE_ONLY are known to the node and to no sidecar.
VIP, VIP6 = "10.96.0.10", "fd96::10"
WALK_VIP = "10.96.0.20"
#: Addresses of the same service, for tests that each want one that is new to the sidecars.
LATE = "10.96.30.0/24"
LATE_VIPS = [f"10.96.30.{n}" for n in range(1, 255)]
NODE_ONLY, NODE_ONLY6 = "10.96.0.99", "fd96::99"

HTTP, GRPC, SMTP, ECHO = 9898, 9999, 2525, 7000
WALK_HOST = "walk.test.svc.cluster.local"
WALK = 9900
#: {port of the service: port of the pod}
PORTS = {80: HTTP, 9999: GRPC, 25: SMTP, 7: ECHO}
EXCLUDED_OUTBOUND = 8099

MISSING_PROGRAMS = "IS NOT INSTALLED (docker/install-deps.sh test)"


class Cluster(pods.Lab):
    """`client` and `server` with the redirect, `outside` without, and `node` between them."""

    def _lay_out(self):
        self.node = self._pod("node", None, None)
        self.node.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.client, self.server, self.outside = (
            self._plug(name, number) for number, name in enumerate(("client", "server", "outside"), 1))
        self._translate(VIP, VIP6, PORTS)
        self._translate(WALK_VIP, None, {80: WALK})
        self._translate(NODE_ONLY, NODE_ONLY6, {80: HTTP, EXCLUDED_OUTBOUND: HTTP})

    def _plug(self, name, number):
        """A pod whose eth0 leads to the node, and everywhere else through it."""
        pod = self._pod(name, f"10.77.{number}.2", f"fd77:{number}::2")
        v4, v6 = f"10.77.{number}.1", f"fd77:{number}::1"
        self.node.ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", pod.name)
        for where, device, addresses in ((self.node, name, (v4, v6)), (pod, "eth0", (pod.v4, pod.v6))):
            where.ip("address", "add", f"{addresses[0]}/24", "dev", device)
            where.ip("address", "add", f"{addresses[1]}/64", "dev", device, "nodad")
            where.ip("link", "set", device, "up")
        pod.ip("route", "add", "default", "via", v4)
        pod.ip("-6", "route", "add", "default", "via", v6)
        return pod

    def _translate(self, v4, v6, ports):
        for address, to, is_v6 in ((v4, self.server.v4, False), (v6, f"[{self.server.v6}]", True)):
            if address is not None:
                lines = [f"-A PREROUTING -d {address} -p tcp --dport {port} "
                         f"-j DNAT --to-destination {to}:{target}" for port, target in ports.items()]
                self.node.rules("\n".join(["*nat", *lines, "COMMIT", ""]), is_v6)

    def redirect(self, pod, verb, *more):
        """`hoplite redirect`, with what Istio's injector asks for."""
        return pod.run(self.world.hoplite_binary, "redirect", verb, "-i", "*", "-b", "*",
                       "-d", "15090,15021,15020", *more)

    def services(self):
        """outbound.services: all but the addresses that only the node knows."""
        tls = {"mode": "mutual", "sans": [self.server_identity.principal]}

        def entry(host, port, addresses, endpoint):
            return {"hosts": [host, host.split(".")[0]], "namespace": "test", "port": port,
                    "addresses": addresses, "endpoints": [endpoint], "tls": tls}

        found = [entry(WALK_HOST, 80, [WALK_VIP], f"{self.server.v4}:{WALK}")]
        for port, target in PORTS.items():
            found.append(entry(HOST, port, [VIP, LATE], f"{self.server.v4}:{target}"))
            found.append(entry("podinfo6.test.svc.cluster.local", port, [VIP6],
                               f"[{self.server.v6}]:{target}"))
        return found

    def config(self, workload, identity, mode, **more):
        ports = [{"port": port, "service": HOST} for port in PORTS.values()]
        return {"workload": workload, "interception": "redirect", "workers": 1,
                "inbound": {"listen": "*:15006",
                            "ports": [*ports, {"port": WALK, "service": WALK_HOST}]},
                "outbound": {"listen": "*:15001", "unknown_host": "passthrough",
                             "services": self.services()},
                "mtls": self.mtls(identity, mode), "stats": {"listen": "*:15090"},
                "log": {"access": "all"}, **more}


def echo(connection, _peer):
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


class Mail:
    """Enough of an SMTP server (RFC 5321) to take mail: it speaks first. What came is in `mails`."""

    def __init__(self):
        self.mails = []

    def serve(self, connection, _peer):
        with contextlib.suppress(ValueError), connection.makefile("rwb") as stream:

            def say(line):
                stream.write(line + smtplib.bCRLF)
                stream.flush()

            say(b"220 mail.test.svc.cluster.local ESMTP")
            while line := stream.readline():
                command = line[:4].upper().strip()
                if command == b"DATA":
                    say(b"354 go on")
                    self.mails.append(b"".join(iter(stream.readline, b".\r\n")))
                say(b"221 bye" if command == b"QUIT" else b"250 ok")
                if command == b"QUIT":
                    return
