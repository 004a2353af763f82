#!/bin/bash
# Takes a package apart and tries what is in it: packaging/check.sh hawser_….deb
set -eu
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
dpkg-deb -x "$1" "$folder"
dpkg-deb -e "$1" "$folder/control"
for script in "$folder"/control/p*; do
    sh -n "$script"
done
grep -qx /etc/hawser/hawser.toml "$folder/control/conffiles"

hawser="$folder/usr/bin/hawser"
"$hawser" --version
"$hawser" check "$folder/etc/hawser/hawser.toml"
bash -n "$folder/usr/share/bash-completion/completions/hawser"
for page in "$folder"/usr/share/man/man1/hawser*.1.gz; do
    complaints="$(zcat "$page" | groff -Kutf8 -man -Tutf8 -ww 2>&1 >/dev/null)"
    [ -z "$complaints" ] || { echo "$page: $complaints"; exit 1; }
done

# The unit names the program and the page by where they will be.
unit="$folder/hawser.service"
sed -e "s|/usr/bin/hawser|$hawser|" -e '/^Documentation=/d' "$folder/usr/lib/systemd/system/hawser.service" > "$unit"
complaints="$(systemd-analyze verify "$unit" 2>&1 | grep -F hawser.service || true)"
[ -z "$complaints" ] || { echo "$complaints"; exit 1; }
echo "The package is in order."
