#!/usr/bin/env bash
# Puts PostgreSQL's own regression suite into a folder: the tests from the source package of the installed server's
# major version, and regress.so compiled against the server's headers. Nothing of it is part of this repository.
#
#   tests/regress/fetch.sh FOLDER
set -euo pipefail
folder=$(realpath -m "$1")
[ -f "$folder/.done" ] && exit 0
command -v apt-get >/dev/null || { echo "no apt-get here: PostgreSQL's regression suite is not fetched"; exit 0; }
major=$(ls /usr/lib/postgresql | sort -n | tail -1)
work=$folder/work
mkdir -p "$work/lists/partial" "$work/archives/partial"

# Sources of the same archives that the machine's packages come from, in lists of our own.
apt-get indextargets --format 'deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
	sort -u >"$work/sources.list"
options=(-o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
	-o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work" -o APT::Get::List-Cleanup=0 -o APT::Sandbox::User=root)
apt-get "${options[@]}" update -qq || true
cd "$work"
# The newest that can be had: an archive may have dropped the very version that is installed.
for version in $(apt-cache "${options[@]}" showsrc "postgresql-$major" | sed -n 's/^Version: //p' | sort -rV); do
	apt-get "${options[@]}" source -qq --download-only "postgresql-$major=$version" && break
done
tarball=$(ls postgresql-"$major"_*.orig.tar.* | head -1)
tar xf "$tarball" --strip-components=1 --wildcards '*/src/test/regress/*'

apt-get -o APT::Sandbox::User=root download -qq "postgresql-server-dev-$major"
dpkg-deb -x postgresql-server-dev-"$major"_*.deb headers
mkdir -p "$folder/lib"
cc -O1 -fPIC -shared -w -I "headers/usr/include/postgresql/$major/server" -I /usr/include/postgresql \
	-I src/test/regress src/test/regress/regress.c -o "$folder/lib/regress.so"
cp /usr/lib/postgresql/"$major"/lib/{autoinc,refint}.so "$folder/lib/"
rm -rf "$folder/regress"
mv src/test/regress "$folder/regress"
rm -rf "$work"
touch "$folder/.done"
