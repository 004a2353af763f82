#!/usr/bin/env bash
# Fetches PostgreSQL's own regression tests into the folder $1, from Debian's source package of the version that is
# installed, and compiles what they load into a server. They are PostgreSQL's: they are not kept in this repository.
#
# Where a mirror has the sources of another minor version only, the programs of that version come along, into
# $1/postgresql: what psql and the modules of contrib print changes between minor versions.
set -euo pipefail
target=$(realpath -m "$1")
[ "$target/.done" -nt "$0" ] && exit 0
command -v apt-get >/dev/null || {
	echo "no apt-get here; put src/test/regress of PostgreSQL's sources into $target, and regress.so into $target/lib" >&2
	exit 1
}
major=$(ls /usr/lib/postgresql | sort -V | tail -n 1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"

# The machine's own sources, for source packages, in folders of their own: nothing of the machine is changed.
mkdir -p "$work"/{parts,lists/partial,cache/archives/partial}
for file in /etc/apt/sources.list.d/{debian,ubuntu}.sources; do
	[ -e "$file" ] && sed 's/^Types:.*/Types: deb-src/' "$file" >"$work/parts/${file##*/}"
done
[ -e /etc/apt/sources.list ] && sed -n 's/^deb /deb-src /p' /etc/apt/sources.list >"$work/parts/main.list"
options=(-o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$work/parts" -o "Dir::State::lists=$work/lists"
	-o "Dir::Cache=$work/cache" -o "APT::Sandbox::User=root" -qq)
apt-get "${options[@]}" update
cd "$work"
for version in $(apt-cache "${options[@]}" showsrc "postgresql-$major" | sed -n 's/^Version: //p' | sort -Vru); do
	# A mirror may have the index of a version and not the version.
	apt-get "${options[@]}" source --download-only "postgresql-$major=$version" 2>/dev/null && break
done
rm -rf "$target"
mkdir -p "$target/lib"
prefix=
headers=postgresql-server-dev-$major
if [ "$version" != "$(dpkg-query -W -f '${Version}' "postgresql-$major")" ]; then
	binaries=("postgresql-$major=$version" "postgresql-client-$major=$version")
	if apt-get -o APT::Sandbox::User=root -qq download "${binaries[@]}"; then
		for archive in *.deb; do dpkg-deb -x "$archive" "$target/postgresql"; done
		prefix=$target/postgresql
		headers+="=$version"
	else
		echo "no $version to run its tests with: some will differ on a direct connection, too" >&2
	fi
fi
mkdir sources
tar -xf postgresql-"$major"_*.orig.tar.* -C sources --strip-components=1 --wildcards '*/src/test/regress/*'
apt-get -o APT::Sandbox::User=root -qq download "$headers"
dpkg-deb -x postgresql-server-dev-"$major"_*.deb headers
cc -O1 -fPIC -shared -w -I "headers/usr/include/postgresql/$major/server" -I /usr/include/postgresql \
	-I sources/src/test/regress sources/src/test/regress/regress.c -o "$target/lib/regress.so"
cp "$prefix"/usr/lib/postgresql/"$major"/lib/{autoinc,refint}.so "$target/lib"
cp -r sources/src/test/regress/. "$target"
touch "$target/.done"
