"""The rules of the code that a compiler does not check: which folder may include what, which module
may link which, how long files are, and what no file may say. Starts nothing."""

import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAX_LINES = 500
CODE = (".cc", ".h")

#: header: the folders that may include it. Tests may include what they test.
INCLUDE_WALLS = {
    r"<uv\.h>": ["proxy/net/"],
    r"<openssl/": ["tls/"],
    r"<llhttp": ["proxy/http1/"],
    r"<nghttp2/": ["proxy/http2/"],
    r"<yaml-cpp/": ["proxy/config/", "proxy/inject/", "proxy/sidecar/"],
    r"<prometheus/": ["telemetry/"],
    r"<google/protobuf/": ["telemetry/"],
    r"<spdlog/": ["telemetry/"],
    r"<zlib\.h>": ["proxy/server/"],
}

#: target: the targets of ours that it may link, directly.
ARROWS = {
    "telemetry": [],
    "tls": [],
    "base": [],
    "net": ["base", "tls"],
    "http": ["base"],
    "http1": ["http", "net", "llhttp"],
    "http2": ["http", "net", "tls"],
    "config": ["base", "http", "tls"],
    "route": ["http", "config"],
    "filter": ["http", "config", "route", "telemetry", "tls"],
    "endpoints": ["net", "config", "telemetry"],
    "upstream": ["endpoints", "http1", "http2", "config"],
    "detect": [],
    "tunnel": ["net", "upstream", "telemetry", "config"],
    "exchange": ["filter", "route", "upstream", "telemetry"],
    "server": ["exchange", "tunnel", "detect", "http1", "http2", "config", "telemetry", "tls"],
    "sidecar": [],
    "inject": ["config", "telemetry"],
    "redirect": ["config"],
    "commands": ["server", "sidecar", "inject", "redirect", "config", "telemetry", "tls"],
}

#: What belongs to whoever wrote a line, not into it.
WORDS = {
    "a reference to a tracker": r"(?i)\bissues? *#?\d",
    # Istio's agent, whose ports a sidecar offers, is another thing.
    "a word about who wrote it": r"(?i)\b((ai|coding|helper) agents?|claude|anthropic|chatgpt|copilot)\b",
    "a path of one machine": r"(?<![\w.])/(work|root|home)/",
    "something left to do": r"\b(TODO|FIXME|XXX|HACK)\b",
}


def tracked():
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, check=False)
    if listed.returncode != 0:
        pytest.skip(f"{ROOT} IS NOT A GIT REPOSITORY: its files were not checked")
    return [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def files():
    """{name: text} of the tracked text files."""
    texts = {}
    for name in tracked():
        raw = (ROOT / name).read_bytes()
        if b"\0" not in raw and "/seeds/" not in name:
            texts[name] = raw.decode("utf-8")
    assert len(texts) > 100
    return texts


def includes(text):
    return re.findall(r"^\s*#\s*include\s+(\S+)", text, re.M)


def test_include_walls(files):
    wrong = []
    for name, text in files.items():
        if not name.endswith(CODE) or name.startswith("tests/"):
            continue
        for header in includes(text):
            for wall, inside in INCLUDE_WALLS.items():
                if re.match(wall, header) and not name.startswith(tuple(inside)):
                    wrong.append(f"{name}: {header}")
    assert wrong == []


def modules(files):
    """{module: what it links} as the CMakeLists say, targets of ours without their prefix."""
    found = {}
    for name, text in files.items():
        if not name.endswith("CMakeLists.txt") or name.startswith(("tests/", "bench/")):
            continue
        for call in re.findall(r"^hoplite_module\((.*?)\)", text, re.M | re.S):
            words = call.split()
            links = words[words.index("LINKS") + 1 :] if "LINKS" in words else []
            found[words[0]] = [re.sub("^hoplite(::|_)", "", link) for link in links
                               if link.startswith("hoplite")]
    return found


def test_arrows(files):
    """Each module links only what the architecture allows."""
    found = modules(files)
    assert len(found) >= 14
    unknown = sorted(set(found) - set(ARROWS))
    assert unknown == []
    wrong = [f"{module} -> {link}" for module, links in found.items() for link in links
             if link not in ARROWS[module]]
    assert wrong == []


def test_includes_follow_the_links(files):
    """A header of a module is included only where the module is linked, directly or through
    another one. (All of them share one include folder, so the compiler would not mind.)"""
    links = modules(files)

    def closure(module, seen=()):
        for link in links.get(module, []):
            if link not in seen:
                seen = closure(link, (*seen, link))
        return seen

    folders = {}  # folder -> modules in it
    for name, text in files.items():
        if name.endswith("CMakeLists.txt"):
            for module in re.findall(r"^hoplite_module\((\w+)", text, re.M):
                folders.setdefault(name.removesuffix("CMakeLists.txt"), []).append(module)
    wrong = []
    for name, text in files.items():
        own = [folder for folder in folders if name.startswith(folder)]
        if not name.endswith(CODE) or not own:
            continue
        reach = {reached for module in folders[own[0]] for reached in (module, *closure(module))}
        for header in includes(text):
            for folder, there in folders.items():
                if header.startswith(f'"{folder}') and not reach & set(there):
                    wrong.append(f"{name}: {header}")
    assert wrong == []


def test_size_of_files(files):
    long = {name: text.count("\n") for name, text in files.items()
            if name.endswith((*CODE, ".py", ".sh")) and text.count("\n") > MAX_LINES}
    assert long == {}


def test_first_lines(files):
    """Every source file says first what it is and what it is not."""
    bare = [name for name, text in files.items() if name.endswith(CODE)
            and not re.match(r"// \S", text)]
    assert bare == []


@pytest.mark.parametrize("what", WORDS)
def test_words(files, what):
    found = []
    for name, text in files.items():
        if name == "tests/e2e/test_walls.py":
            continue
        found += [f"{name}:{number}: {line.strip()}" for number, line
                  in enumerate(text.splitlines(), 1) if re.search(WORDS[what], line)]
    assert found == []


def test_no_globs(files):
    assert [name for name, text in files.items() if name.endswith("CMakeLists.txt")
            and re.search(r"file\s*\(\s*GLOB", text, re.I)] == []
