#!/bin/sh
# Makes a test CA, a server certificate and client certificates. For tests and demos only.
#
#   make-certs.sh [FOLDER] [USER ...]
#
# FOLDER (default: `out` beside this script) gets
#   ca.crt ca.key            the authority
#   server.crt server.key    for localhost, 127.0.0.1 and ::1, signed by it
#   USER.crt USER.key        a client certificate whose CN is USER, for each USER (default: `app`)
#   other-ca.crt             an authority that signed none of these
# What is there already is kept; a new USER is added to it.
set -eu
umask 077

here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/out}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- app
mkdir -p "$out"
cd "$out"
days=3650

new_key() {
    openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null ||
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null
}

authority() { # name, common name
    new_key "$1.key"
    openssl req -new -x509 -sha256 -days $days -key "$1.key" -out "$1.crt" -subj "/O=Hawser tests/CN=$2" \
        -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign"
}

signed() { # name, common name, extensions
    new_key "$1.key"
    printf '%s\n' "$3" >"$1.ext"
    openssl req -new -sha256 -key "$1.key" -subj "/O=Hawser tests/CN=$2" -out "$1.csr"
    openssl x509 -req -sha256 -days $days -in "$1.csr" -CA ca.crt -CAkey ca.key \
        -set_serial "0x$(openssl rand -hex 8)" -extfile "$1.ext" -out "$1.crt" 2>/dev/null
    rm -f "$1.csr" "$1.ext"
}

if [ ! -f ca.crt ]; then
    authority ca "Hawser test authority"
    authority other-ca "Hawser stranger"
fi
if [ ! -f server.crt ]; then
    signed server localhost "basicConstraints=CA:FALSE
keyUsage=digitalSignature
extendedKeyUsage=serverAuth
subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"
fi
for user in "$@"; do
    [ -f "$user.crt" ] || signed "$user" "$user" "basicConstraints=CA:FALSE
keyUsage=digitalSignature
extendedKeyUsage=clientAuth"
done
