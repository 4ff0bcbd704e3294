"""What packages and units say, as values: relations, closures, tags, commands, accounts, folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from ondol.build.archive import Tree
from ondol.build.debian import accounts, content, control, scripts, units
from ondol.build.debian.control import Package
from ondol.build.debian.units import Service
from ondol.build.errors import BuildError


def _package(name: str, depends: str = "", **fields: str) -> Package:
    lines = [f"Package: {name}", "Version: 1:2.0-1", f"Depends: {depends}"]
    lines += [f"{key.replace('_', '-')}: {value}" for key, value in fields.items()]
    return control.parse("\n".join(lines) + "\n")


def _names(root: str, *packages: Package) -> list[str]:
    return [each.name for each in control.closure([root], {p.name: p for p in packages})]


def test_a_control_file_is_read_with_its_continued_lines() -> None:
    """Relations lose versions and architectures, Pre-Depends come first, and folded lines are one."""
    package = control.parse(
        "Package: app\nVersion: 1.0\nPre-Depends: libc6 (>= 2.34)\n"
        "Depends: aa:any (= 1), bb [amd64] |\n cc,\n dd\nDescription: one\n more\n"
    )
    assert package.needs == (("libc6",), ("aa",), ("bb", "cc"), ("dd",))


@pytest.mark.parametrize("text", ["", "Package: app\n", "Version: 1\n"])
def test_a_control_file_without_name_or_version_is_none(text: str) -> None:
    """A package that does not say what it is cannot be put into an image."""
    with pytest.raises(KeyError):
        control.parse(text)


def test_a_closure_follows_what_runs_and_not_what_installs() -> None:
    """Libraries of libraries come along; adduser and what only it needs do not, nor what is not needed."""
    packages = [
        _package("app", "liba, adduser, missing"),
        _package("liba", "libb"),
        _package("libb", "liba"),
        _package("adduser", "perl"),
        _package("perl"),
        _package("other"),
    ]
    assert _names("app", *packages) == ["app", "liba", "libb"]


def test_a_choice_is_what_apt_chose() -> None:
    """Of alternatives the one at hand is taken, a virtual package by who provides it."""
    packages = [
        _package("app", "first | second, virtual"),
        _package("second"),
        _package("third", Provides="virtual (= 1)"),
    ]
    assert _names("app", *packages) == ["app", "second", "third"]
    assert _names("app", *packages[:1]) == ["app"]


def test_a_choice_that_an_installer_satisfies_brings_nothing() -> None:
    """`debconf (>= 0.5) | debconf-2.0` is for the package's scripts, whichever apt took."""
    assert _names("app", _package("app", "debconf | debconf-2.0"), _package("debconf-2.0")) == ["app"]


@pytest.mark.parametrize(
    ("version", "tag"),
    [
        ("1.2", "1.2"),
        ("5:7.0.15-1~deb12u10", "7.0.15-1-deb12u10"),
        ("2.42.0+ds-5+deb12u1", "2.42.0-ds-5-deb12u1"),
        ("0~~", "0"),
        ("~", "latest"),
        ("1" * 200, "1" * 128),
    ],
)
def test_a_version_becomes_a_tag(version: str, tag: str) -> None:
    """Without its epoch, and with what a tag may have."""
    assert control.tag(version) == tag


@pytest.mark.parametrize(
    "request_", ["-o=x", "--help", "a", "Redis", "a b", "app=", "../x", "app/stable", ""]
)
def test_what_is_no_package_is_no_request(request_: str) -> None:
    """No option and no path reaches apt in the place of a name."""
    assert not control.is_request(request_)


@pytest.mark.parametrize("request_", ["redis-server", "g++", "app=1:2.0-1~deb12u1", "libstdc++6"])
def test_a_package_is_a_request(request_: str) -> None:
    """Names as Debian writes them, perhaps with a version."""
    assert control.is_request(request_)


def _service(text: str, files: dict[str, str] | None = None, name: str = "app") -> Service:
    return units.read(name, f"[Unit]\nUser=nobody\n[Service]\n{text}\n[Install]\nUser=x\n", (files or {}).get)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("/bin/a -b c", ("/bin/a", "-b", "c")),
        ("-/bin/a", ("/bin/a",)),
        ("+!!/bin/a b", ("/bin/a", "b")),
        ("@/bin/a named b", ("/bin/a", "b")),
        ("/bin/a 'b c' \"d e\"", ("/bin/a", "b c", "d e")),
        ("/bin/a b \\\n   c", ("/bin/a", "b", "c")),
        ("/bin/a $ARGS end", ("/bin/a", "-x", "1 2", "end")),
        ("/bin/a --of=${NAME} ${NONE} $NONE", ("/bin/a", "--of=two words", "")),
        ("/bin/a 100%% $$", ("/bin/a", "100%", "$")),
    ],
)
def test_a_units_command(line: str, command: tuple[str, ...]) -> None:
    """Prefixes, quotes, continued lines, variables and escapes as systemd reads them."""
    environment = "Environment=\"ARGS=-x '1 2'\" 'NAME=two words'"
    assert _service(f"{environment}\nExecStart={line}").command == command


@pytest.mark.parametrize("line", ["", "/bin/a %i", "/bin/a 'b", "${X"])
def test_a_command_that_only_systemd_could_run(line: str) -> None:
    """No command, a specifier or quotes without an end: refused with the reason."""
    if line == "${X":
        assert _service(f"ExecStart={line}").command == ("${X",)  # a program's name is taken literally
        return
    with pytest.raises(units.Unreadable):
        _service(f"ExecStart={line}")


def test_an_empty_setting_forgets_the_former() -> None:
    """The first command that stands is the one."""
    assert _service("ExecStart=/bin/a\nExecStart=\nExecStart=/bin/b\nExecStart=/bin/c").command == ("/bin/b",)


def test_variables_come_from_files() -> None:
    """An EnvironmentFile is read without its comments and quotes; one that is missing is empty."""
    files = {"/etc/default/app": '# words\nARGS="-a 1"\n;x=y\nexport BAD=1\nPLAIN=a b\n'}
    text = "EnvironmentFile=-/etc/default/none\nEnvironmentFile=/etc/default/app\nExecStart=/bin/a $ARGS"
    service = _service(text, files)
    assert service.command == ("/bin/a", "-a", "1")
    assert service.environment == {"ARGS": "-a 1", "PLAIN": "a b"}


def test_an_account_and_its_folders() -> None:
    """User and group, state folders, and paths under /run and /var that may be written."""
    service = _service(
        "ExecStart=/bin/a\nUser=redis\nRuntimeDirectory=redis\nStateDirectory=a b:c\nWorkingDirectory=-/srv\n"
        "ReadWritePaths=-/var/log/redis /etc/redis\nReadWriteDirectories=-/var/run/redis /var"
    )
    assert (service.user, service.group, service.working_dir) == ("redis", "redis", "/srv")
    assert service.folders == ("/run/redis", "/var/lib/a", "/var/lib/b", "/var/log/redis")


@pytest.mark.parametrize(
    ("text", "user"), [("", ""), ("User=root", ""), ("DynamicUser=yes", "app"), ("DynamicUser=no", "")]
)
def test_who_a_service_is(text: str, user: str) -> None:
    """Root where no account is named, and an account of the unit's name where any would do."""
    assert _service(f"ExecStart=/bin/a\n{text}").user == user


def test_a_forking_service_is_marked() -> None:
    """A daemon that leaves its process would end its container; what runs before it is kept as text."""
    assert _service("ExecStartPre=/bin/a\nExecStartPre=b\nExecStart=/c").before == "/bin/a\nb"
    assert _service("Type=forking\nExecStart=/bin/a").is_forking
    assert not _service("Type=notify\nExecStart=/bin/a").is_forking


@pytest.mark.parametrize(
    ("user", "group", "account"),
    [
        ("", "", accounts.Account(0, 0, "/root")),
        ("redis", "redis", accounts.Account(101, 101, "/var/lib/redis")),
        ("redis", "adm", accounts.Account(101, 4, "/var/lib/redis")),
        ("www-data", "www-data", accounts.Account(33, 33, "/var/lib/redis")),
        ("1234", "1234", accounts.Account(1234, 1234, "/var/lib/redis")),
    ],
)
def test_accounts_of_an_image(user: str, group: str, account: accounts.Account) -> None:
    """Accounts of the distribution keep their numbers, the service's own gets one, and folders are its."""
    tree = Tree()
    service = Service(("/bin/a",), user, group, {}, "", ("/run/redis",), False)
    assert accounts.add(tree, service, ["/var/lib/redis"]) == account
    assert "run/redis" not in tree if not account.uid else tree.entries["run/redis"].owner == account.uid
    passwd = (tree.entries["etc/passwd"].content or b"").decode()
    assert passwd.startswith("root:x:0:0:root:/root:/bin/sh\n")
    assert len({line.split(":")[0] for line in passwd.splitlines()}) == passwd.count("\n")


@pytest.mark.parametrize("command", ["", "  ", "'a"])
def test_a_command_of_a_persons_own_must_be_one(command: str) -> None:
    """No words, or quotes without an end, are refused."""
    with pytest.raises(BuildError):
        content.words(command)


def test_variables_of_this_machine_stay_out(tmp_path: Path) -> None:
    """A package whose link leads out of it does not bring a file of the machine into an image."""
    (tmp_path / "secret").write_text("KEY=secret\n")
    folder = tmp_path / "app"
    (folder / "lib/systemd/system").mkdir(parents=True)
    (folder / "etc").symlink_to(tmp_path)
    text = "[Service]\nEnvironmentFile=/etc/secret\nEnvironmentFile=/../secret\nExecStart=/bin/a ${KEY}\n"
    (folder / "lib/systemd/system/app.service").write_text(text)
    service = content.service([content.Unpacked(_package("app"), folder)], "app")
    assert service is not None
    assert (service.command, service.environment) == (("/bin/a", ""), {})


@pytest.mark.parametrize("units_", [("a", "b"), ("a", "b", "app@")])
def test_a_package_with_several_units_asks_which(tmp_path: Path, units_: tuple[str, ...]) -> None:
    """None of them is guessed; templates are no units; the one of the package's name would be it."""
    folder = tmp_path / "lib/systemd/system"
    folder.mkdir(parents=True)
    for name in units_:
        (folder / f"{name}.service").write_text("[Service]\nExecStart=/bin/a\n")
    unpacked = [content.Unpacked(_package("app"), tmp_path)]
    with pytest.raises(BuildError, match=r"has the units a\.service, b\.service"):
        content.service(unpacked, "app")
    (folder / "app.service").write_text("[Service]\nExecStart=/bin/own\n")
    service = content.service(unpacked, "app")
    assert service is not None
    assert service.command == ("/bin/own",)


def _program(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("names", "program"),
    [
        (("usr/bin/other",), "/usr/bin/other"),
        (("usr/bin/app", "usr/bin/appctl"), "/usr/bin/app"),
        (("sbin/app",), "/usr/sbin/app"),
    ],
)
def test_the_program_of_a_package(tmp_path: Path, names: tuple[str, ...], program: str) -> None:
    """The only one, or the one of the package's name, where a merged /usr has it."""
    unpacked = content.Unpacked(_package("app"), _program(tmp_path, *names))
    assert content.program(unpacked) == program


@pytest.mark.parametrize("names", [(), ("usr/bin/a", "usr/bin/b")])
def test_a_package_that_does_not_say_what_to_start(tmp_path: Path, names: tuple[str, ...]) -> None:
    """None or several programs: the person is asked, with what there is."""
    unpacked = content.Unpacked(_package("app"), _program(tmp_path, *names))
    with pytest.raises(BuildError, match="does not say what to start") as raised:
        content.program(unpacked)
    assert "--entrypoint" in raised.value.remedy


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("adduser --quiet --system --ingroup a --shell /usr/sbin/nologin mosquitto", {"mosquitto"}),
        ("  if ! getent passwd x; then adduser --system \\\n  --group etcd >/dev/null || true; fi", {"etcd"}),
        ("useradd -r app; useradd -r other", {"app"}),
        ("adduser influxdb influxdb", set()),
        ("# adduser --system app", set()),
        ('adduser --system "$USER"', set()),
        ("adduser --system app --home /var/lib/app", set()),
        ("adduser --system 'app", set()),
        ("adduser", set()),
    ],
)
def test_accounts_that_scripts_make(script: str, names: set[str]) -> None:
    """System accounts with literal names; what a script works out is not guessed, and nothing is run."""
    assert scripts.accounts(script).names == names


def test_folders_that_scripts_give() -> None:
    """Literal ones below /var and /run, and homes there."""
    script = (
        "chown mosquitto /var/lib/mosquitto/\ntest -e x || chown -R a:b /var/log/a /etc/a\n"
        "chown a $DIR\nchown a /var/lib/*\nchown $U /var/lib/u\nchown\n"
        "chown a /var/../etc /var/log/a/a.log /var/.."
    )
    script += "\nadduser --system --home /var/lib/h h\n/bin/chown -R r:r /run/r\nuseradd -r -d /home/x x"
    expected = {"/var/lib/h": "h", "/run/r": "r", "/var/lib/mosquitto": "mosquitto", "/var/log/a": "a"}
    assert scripts.accounts(script).folders == expected


def test_a_daemon_that_becomes_another_finds_its_folders() -> None:
    """One that begins as root gives what the package ships to the account that the script names."""
    tree = Tree()
    others = scripts.Accounts({"zeta"}, {"/var/log/z": "zeta"})
    account = accounts.add(tree, Service(("/bin/a",), "", "", {}, "", (), False), ["/var/log/z"], others)
    assert (account.uid, tree.entries["var/log/z"].owner) == (0, 102)


def test_accounts_beside_the_services_own() -> None:
    """They get the numbers behind it and their folders; fixed ones stay as they are."""
    tree = Tree()
    others = scripts.Accounts(
        {"zeta", "beta", "www-data"}, {"/var/lib/z": "zeta", "/var/lib/own": "app", "/var/lib/n": "nobody2"}
    )
    account = accounts.add(tree, Service(("/bin/a",), "app", "app", {}, "", (), False), [], others)
    passwd = (tree.entries["etc/passwd"].content or b"").decode().splitlines()
    numbers = {line.split(":")[0]: line.split(":")[2:4] for line in passwd}
    assert (numbers["beta"], numbers["zeta"], numbers["app"]) == (["102"] * 2, ["103"] * 2, ["101"] * 2)
    assert numbers["www-data"] == ["33", "33"]
    assert tree.entries["var/lib/z"].owner == 103
    assert "var/lib/n" not in tree
    assert account.folder == "/var/lib/own"
