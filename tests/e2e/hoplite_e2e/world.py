"""Everything one test starts, so that all of it is stopped and judged in one place."""

from .certs import Authority
from .programs import Hoplite, TestService
from .raw import RawClient, RawServer
from .tls import TlsClient


class World:
    def __init__(self, hoplite_binary, service_binary, folder):
        self.hoplite_binary = hoplite_binary
        self.service_binary = service_binary
        self.folder = folder
        self.processes = []
        self._killed = set()
        self._clients = []
        self._servers = []

    def _keep(self, process):
        self.processes.append(process)
        return process

    def _name(self, wanted):
        taken = {process.name for process in self.processes}
        name, count = wanted, 1
        while name in taken:
            count += 1
            name = f"{wanted}-{count}"
        return name

    def service(self, name="app", threads=1):
        """A test service whose received bytes can be asked for with .received()."""
        name = self._name(name)
        return self._keep(TestService(self.service_binary, name, self.folder / f"{name}.record",
                                      threads))

    def hoplite(self, config=None, name="sidecar", arguments=None, env=None, wait_ready=True):
        """A hoplite that is ready, unless that is not waited for.

        It must exit 0 on SIGTERM when the test is over.
        """
        process = self._keep(Hoplite(self.hoplite_binary, self._name(name), config, self.folder,
                                     arguments, env, wait_ready=False))
        if wait_ready:
            process.wait_ready()
        return process

    def kill(self, process):
        """Kills a process as a part of the test; how it ended is then no fault."""
        self._killed.add(process)
        process.kill()

    def client(self, port, host="127.0.0.1"):
        client = RawClient(port, host)
        self._clients.append(client)
        return client

    def tls_client(self, port, context, sni=None, session=None):
        client = TlsClient(port, context, sni, session)
        self._clients.append(client)
        return client

    def raw_server(self, script, host="127.0.0.1", port=0):
        server = RawServer(script, host, port)
        self._servers.append(server)
        return server

    def authority(self, trust_domain="cluster.local", name="ca"):
        folder = self.folder / name
        folder.mkdir()
        return Authority(self.hoplite_binary, folder, trust_domain)

    def close(self):
        """Stops everything, clients first. The list of what was wrong with it."""
        faults = []
        for client in self._clients:
            client.close()
        for process in reversed(self.processes):
            code = process.stop()
            if process in self._killed:
                continue
            if code is None:
                faults.append(f"{process.name} did not end after SIGTERM and was killed")
            elif code != 0:
                faults.append(f"{process.name} ended with {code}")
            faults += [f"{process.name}: {line}" for line in process.sanitizer_reports()]
        for server in self._servers:
            server.stop()
            faults += server.errors
        return faults
