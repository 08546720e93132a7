"""What is measured: each proxy alone and in a pair, with its configuration. Not how it is measured.

All are tuned alike: one worker, no access log, upstream connections kept and reused, bodies not
spooled to disk, the same certificates, TLS 1.3 with client certificates between the two of a pair.
"""

import pathlib
import socket
import subprocess
import time
import urllib.request

HOST = "podinfo.test.svc.cluster.local"
SERVER_ID = "spiffe://cluster.local/ns/test/sa/podinfo"
CLIENT_ID = "spiffe://cluster.local/ns/default/sa/client"

NGINX = """
daemon off;
worker_processes 1;
pid {folder}/{name}.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_max_body_size 0;
  proxy_request_buffering off;
  proxy_max_temp_file_size 0;
  client_body_temp_path {folder}/{name}.body;
  proxy_temp_path {folder}/{name}.proxy;
  fastcgi_temp_path {folder}/{name}.fastcgi;
  uwsgi_temp_path {folder}/{name}.uwsgi;
  scgi_temp_path {folder}/{name}.scgi;
  keepalive_requests 1000000000;
  upstream next {{ server {upstream}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen {listen}{ssl};
    {server_tls}
    location / {{
      proxy_pass {scheme}://next;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      {client_tls}
    }}
  }}
}}
"""

HAPROXY = """
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option http-keep-alive
  http-reuse always
frontend in
  bind {listen}{bind}
  default_backend next
backend next
  server one {upstream}{server}
"""


class Certificates:
    """A CA, a server's and a client's certificate: ECDSA P-256, with SPIFFE and DNS names."""

    def __init__(self, folder):
        self.folder = folder
        self._run("req", "-x509", *self._new_key("ca"), "-subj", "/O=bench", "-days", "30",
                  "-out", "ca.pem")
        for name, identity in (("server", SERVER_ID), ("client", CLIENT_ID)):
            (folder / "san").write_text(
                f"subjectAltName=critical,URI:{identity},DNS:{HOST}\n"
                "keyUsage=critical,digitalSignature\nbasicConstraints=critical,CA:false\n"
                "extendedKeyUsage=serverAuth,clientAuth\n")
            self._run("req", *self._new_key(name), "-subj", "/", "-out", "csr.pem")
            self._run("x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "ca-key.pem",
                      "-days", "30", "-extfile", "san", "-out", f"{name}.pem")
            both = (folder / f"{name}.pem").read_text() + (folder / f"{name}-key.pem").read_text()
            (folder / f"{name}-both.pem").write_text(both)  # as haproxy wants it

    @staticmethod
    def _new_key(name):
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", f"{name}-key.pem"]

    def _run(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)


def free_address():
    """An address nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return f"127.0.0.1:{found.getsockname()[1]}"


class Bench:
    """The folder, the programs and the processes of one run."""

    def __init__(self, build, folder, proxy_cpus, other_cpus):
        self.build = build
        self.folder = folder
        self.certificates = Certificates(folder)
        self._proxy_cpus = proxy_cpus
        self._other_cpus = other_cpus
        self.processes = []

    def start(self, name, argv, is_proxy=True):
        """Starts a process on the CPUs of its kind; its pid."""
        cpus = self._proxy_cpus if is_proxy else self._other_cpus
        with open(self.folder / f"{name}.log", "wb") as log:
            process = subprocess.Popen(["taskset", "-c", cpus, *map(str, argv)], stdout=log,
                                       stderr=log, stdin=subprocess.DEVNULL)
        self.processes.append(process)
        return process.pid

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def await_port(address):
    """Waits until somebody accepts connections at `address`."""
    host, port = address.rsplit(":", 1)
    end = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((host, int(port)), 5).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise SystemExit(f"nobody listens on {address}") from None
            time.sleep(0.05)


def ask(address, http2):
    """Fails with an OSError unless `address` answers /version with 200."""
    if http2:
        answer = subprocess.run(["h2load", "-n", "1", "-c", "1", "-T", "5", "-H",
                                 f":authority: {HOST}", f"http://{address}/version"],
                                capture_output=True, text=True)
        if "status codes: 1 2xx" not in answer.stdout:
            raise OSError(answer.stdout)
        return
    request = urllib.request.Request(f"http://{address}/version", headers={"Host": HOST})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=5) as answer:
        assert answer.status == 200


def await_answer(address, log, http2):
    """Waits until `address` answers /version with 200."""
    end = time.monotonic() + 30
    while True:
        try:
            return ask(address, http2)
        except OSError as error:
            if time.monotonic() > end:
                raise SystemExit(f"{address} does not answer ({error}):\n{log.read_text()}") from None
            time.sleep(0.05)


def service(bench, http2=False):
    address, grpc = free_address(), free_address()
    bench.start("service", [bench.build / "tests/support/test_service", "--listen", address,
                            "--grpc-listen", grpc], is_proxy=False)
    return grpc if http2 else address


# Each of these starts one proxy and returns its pid. `tls` is None, "accept" for the end that
# terminates mutual TLS, or "originate". With `http2` it speaks that on both sides.


def relay(bench, name, listen, upstream, tls, http2):
    return bench.start(name, [bench.build / "bench/relay", listen, upstream])


def nginx(bench, name, listen, upstream, tls, http2):
    folder = bench.folder
    server_tls = client_tls = ""
    if tls == "accept":
        server_tls = (f"ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server-key.pem;"
                      f" ssl_client_certificate {folder}/ca.pem; ssl_verify_client on;"
                      " ssl_protocols TLSv1.3;")
    if tls == "originate":
        client_tls = (f"proxy_ssl_certificate {folder}/client.pem;"
                      f" proxy_ssl_certificate_key {folder}/client-key.pem;"
                      f" proxy_ssl_trusted_certificate {folder}/ca.pem; proxy_ssl_verify on;"
                      f" proxy_ssl_name {HOST}; proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3;")
    path = bench.write(f"{name}.conf", NGINX.format(
        folder=folder, name=name, upstream=upstream, listen=listen,
        ssl=" ssl" if tls == "accept" else "", server_tls=server_tls, client_tls=client_tls,
        scheme="https" if tls == "originate" else "http"))
    return bench.start(name, ["/usr/sbin/nginx", "-e", "stderr", "-p", folder, "-c", path])


def nghttpx(bench, name, listen, upstream, tls, http2):
    folder = bench.folder
    words = ["--workers=1", "--no-ocsp", "--accesslog-file=/dev/null", "--log-level=ERROR",
             "--no-via", "--frontend-http2-max-concurrent-streams=128",
             f"--frontend={listen.replace(':', ',')}" + ("" if tls == "accept" else ";no-tls"),
             f"--backend={upstream.replace(':', ',')};/;proto=h2" +
             (f";tls;sni={HOST}" if tls == "originate" else "")]
    if tls == "accept":
        words += ["--verify-client", f"--verify-client-cacert={folder}/ca.pem",
                  "--tls-min-proto-version=TLSv1.3", f"{folder}/server-key.pem",
                  f"{folder}/server.pem"]
    if tls == "originate":
        words += [f"--cacert={folder}/ca.pem", f"--client-cert-file={folder}/client.pem",
                  f"--client-private-key-file={folder}/client-key.pem"]
    return bench.start(name, ["/usr/sbin/nghttpx", "--conf=/dev/null", *words])


def haproxy(bench, name, listen, upstream, tls, http2):
    folder = bench.folder
    bind = server = ""
    alpn = " alpn h2" if http2 else ""
    if http2 and tls != "accept":
        bind = " proto h2"
    if http2 and tls != "originate":
        server = " proto h2"
    if tls == "accept":
        bind = f" ssl{alpn} crt {folder}/server-both.pem ca-file {folder}/ca.pem verify required ssl-min-ver TLSv1.3"
    if tls == "originate":
        server = (f" ssl{alpn} crt {folder}/client-both.pem ca-file {folder}/ca.pem verify required"
                  f" verifyhost {HOST} sni str({HOST}) ssl-min-ver TLSv1.3")
    path = bench.write(f"{name}.conf", HAPROXY.format(upstream=upstream, listen=listen, bind=bind,
                                                      server=server))
    return bench.start(name, ["/usr/sbin/haproxy", "-db", "-f", path])


def hoplite(bench, name, listen, upstream, tls, http2=False):
    who = "client" if tls == "originate" else "podinfo"
    lines = [f"workload: {{name: {who}-v1, namespace: test, app: {who}, version: v1}}",
             "workers: 1", "log: {access: off}", "stats: {listen: '127.0.0.1:0'}"]
    if tls is not None:
        pair = "server" if tls == "accept" else "client"
        folder = bench.folder
        lines.append(f"mtls: {{mode: strict, cert: {folder}/{pair}.pem, key: {folder}/{pair}-key.pem,"
                     f" ca: {folder}/ca.pem}}")
    if tls == "originate":
        lines.append(f"outbound: {{listen: '{listen}', services: [{{hosts: [{HOST}], port: 80,"
                     f" endpoints: ['{upstream}'], tls: {{mode: mutual, sans: ['{SERVER_ID}']}}}}]}}")
    else:
        lines.append(f"inbound: {{listen: '{listen}', app: '{upstream}'}}")
    path = bench.write(f"{name}.yaml", "\n".join(lines) + "\n")
    return bench.start(name, [bench.build / "hoplite", "run", "-c", path])


PROXIES = {"relay": relay, "nginx": nginx, "nghttpx": nghttpx, "haproxy": haproxy,
           "hoplite": hoplite}


def names(http2=False):
    """Everybody who can take such a load: nginx speaks no HTTP/2 upstream, nghttpx is made for it."""
    field = [name for name in PROXIES if name != ("nginx" if http2 else "nghttpx")]
    return ["direct", *field, *(f"{name}-pair" for name in field)]


class Contender:
    """One line of the table: where the load goes, and whose CPU time is counted."""

    def __init__(self, bench, name, app, load=None):
        self.name = name
        http2 = load is not None and load.http2
        self.pids = []
        self.address = app
        if name == "direct":
            return
        proxy = PROXIES[name.removesuffix("-pair")]
        self.address = free_address()
        if not name.endswith("-pair"):
            self.pids.append(proxy(bench, name, self.address, app, None, http2))
        else:
            between = free_address()
            self.pids.append(proxy(bench, f"{name}-server", between, app, "accept", http2))
            self.pids.append(
                proxy(bench, f"{name}-client", self.address, between, "originate", http2))
        log = pathlib.Path(bench.folder / f"{name}{'-client' if name.endswith('-pair') else ''}.log")
        await_answer(self.address, log, http2)

    @property
    def floor(self):
        """The contender this one is compared with."""
        return "relay-pair" if self.name.endswith("-pair") else "relay"
