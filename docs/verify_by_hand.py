#!/usr/bin/env python3
"""Checks a live EVIDENT guest without EVIDENT: Python's standard library and the openssl command.

usage: verify_by_hand.py HOST:PORT ARK.pem      (docs/verify-by-hand.md explains each step)
"""
import base64, hashlib, re, subprocess, sys, tempfile
from pathlib import Path

LABEL = "EXPERIMENTAL evident bind 1"
SECP384R1 = bytes.fromhex("06052b81040022")


def need(holds, otherwise):
    if not holds:
        sys.exit(f"REFUSED: {otherwise}")


def cbor(data, at=0):
    """One item of the CBOR that evident/1 uses, and where the next one begins."""
    major, info = data[at] >> 5, data[at] & 31
    extra = 0 if info < 24 else 1 << (info - 24)
    value = int.from_bytes(data[at + 1:at + 1 + extra], "big") if extra else info
    at += 1 + extra
    if major in (2, 3):
        raw = data[at:at + value]
        return (raw if major == 2 else raw.decode()), at + value
    if major in (4, 5):
        items = []
        for _ in range(value * (major - 3)):
            item, at = cbor(data, at)
            items.append(item)
        return (items if major == 4 else dict(zip(items[::2], items[1::2]))), at
    return (value if major == 0 else value == 21), at


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def openssl(*words, data=b""):
    return subprocess.run(["openssl", *words], input=data, capture_output=True, check=True).stdout


def connect(address):
    """What s_client prints about the connection, and the body of the first frame."""
    words = ["s_client", "-connect", address, "-alpn", "evident/1", "-keymatexport", LABEL, "-keymatexportlen", "32"]
    child = subprocess.Popen(["openssl", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    seen = b""
    while chunk := child.stdout.read1():
        seen = (seen + chunk).replace(b"read R BLOCK\n", b"")  # s_client's own remark between records
        about, _, frame = seen.partition(b"\n---\n\x01")  # 0x01 is ATTEST
        length = int.from_bytes(frame[:3], "big")
        if len(frame) >= 3 and len(frame) >= 3 + length:
            child.kill()
            return about.decode(), frame[3:3 + length]
    sys.exit("no ATTEST came: is this an EVIDENT guest?")


def main(address, ark):
    if not Path(ark).is_file():
        sys.exit(f"{ark}: no such file. Give AMD's root (ARK) in PEM; for a simulated guest root.pem of the simulator's directory")
    about, body = connect(address)
    bind = bytes.fromhex(re.search(r"Keying material: ([0-9A-F]{64})", about)[1])
    pem = re.search(r"-----BEGIN CERT.*?-----END CERTIFICATE-----\n", about, re.S)[0].encode()
    spki = sha256(base64.b64decode(b"".join(openssl("x509", "-noout", "-pubkey", data=pem).split(b"\n")[1:-2])))
    attest, _ = cbor(body)
    statement, _ = cbor(attest[3])
    print("bind32     ", bind.hex())

    hashed = sha256(b"\0EVIDENT-LEAF-v1\0\x01\x01", spki, bind)  # type 1, role 1
    at, last, path = attest[4], statement[5] - 1, list(attest[5])
    need(at <= last < 65536, "index and n do not fit")
    while last > 0:
        if at % 2 == 1:
            need(path, "the path is too short")
            hashed = sha256(b"\x01", path.pop(0), hashed)
        elif at < last:
            need(path, "the path is too short")
            hashed = sha256(b"\x01", hashed, path.pop(0))
        at, last = at // 2, last // 2
    need(not path and hashed == statement[4], "this connection is not in the statement's tree")
    print("root       ", hashed.hex(), f"of {statement[5]} connections")

    binder = hashlib.sha512(b"EVIDENT-B-v1\0" + attest[3]).digest()
    [(kind, report)] = attest[6]
    need(kind == 1 and len(report) == 1184 and statement[3] == 1, "not a plain SNP report over a batch")
    need(report[0x50:0x90] == binder, "the report was made for something else")
    print("report_data", binder.hex())

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for der in (der for media, der in attest[8] if media == "application/pkix-cert"):
            file = "vek.pem" if SECP384R1 in der else "issuer.pem"  # the issuer's key is RSA
            (folder / file).write_bytes(openssl("x509", "-inform", "DER", data=der))
        chain = ["-no-CApath", "-no-CAstore", "-CAfile", ark, "-untrusted", str(folder / "issuer.pem"), str(folder / "vek.pem")]
        openssl("verify", *chain)
        (folder / "key.pem").write_bytes(openssl("x509", "-in", str(folder / "vek.pem"), "-noout", "-pubkey"))
        r, s = (b"\0" + report[i:i + 72][::-1].lstrip(b"\0") for i in (0x2A0, 0x2E8))  # little-endian in the report
        numbers = b"".join(bytes([2, len(n)]) + n if n[1] & 0x80 else bytes([2, len(n) - 1]) + n[1:] for n in (r, s))
        (folder / "signature").write_bytes(bytes([0x30, len(numbers)]) + numbers)
        check = ["-sha384", "-verify", str(folder / "key.pem"), "-signature", str(folder / "signature")]
        openssl("dgst", *check, data=report[:0x2A0])
    print("signature   of the report verifies, and its key leads to", ark)
    print("measurement", report[0x90:0xC0].hex())
    print("policy      0x%x, vmpl %d" % (int.from_bytes(report[8:16], "little"), int.from_bytes(report[0x30:0x34], "little")))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except subprocess.CalledProcessError as error:
        sys.exit(f"REFUSED: {' '.join(error.cmd[:2])}: {(error.stderr + error.stdout).decode(errors='replace').strip()}")
