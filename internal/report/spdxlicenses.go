package report

import (
	"slices"
	"strings"
)

// isSPDXLicense knows the identifiers that packages really state. One that it
// does not know becomes a LicenseRef, which loses nothing and is always valid.
func isSPDXLicense(id string) bool {
	return slices.Contains(strings.Fields(spdxLicenses), id)
}

func isSPDXException(id string) bool {
	return slices.Contains(strings.Fields(spdxExceptions), id)
}

// Identifiers of the SPDX licence list (spdx.org/licenses).
const (
	spdxLicenses = `
0BSD AFL-2.0 AFL-2.1 AFL-3.0 AGPL-1.0-only AGPL-3.0 AGPL-3.0-only AGPL-3.0-or-later APSL-2.0
Apache-1.0 Apache-1.1 Apache-2.0 Artistic-1.0 Artistic-1.0-Perl Artistic-1.0-cl8 Artistic-2.0
BSD-1-Clause BSD-2-Clause BSD-2-Clause-Patent BSD-2-Clause-Views BSD-3-Clause BSD-3-Clause-Attribution
BSD-3-Clause-Clear BSD-3-Clause-LBNL BSD-3-Clause-Modification BSD-4-Clause BSD-4-Clause-UC BSD-Source-Code
BSL-1.0 BUSL-1.1 Beerware BlueOak-1.0.0
CC-BY-3.0 CC-BY-4.0 CC-BY-SA-3.0 CC-BY-SA-4.0 CC0-1.0 CC-PDDC CDDL-1.0 CDDL-1.1 CECILL-2.1 CECILL-B CECILL-C
CNRI-Python CPL-1.0 ClArtistic Cube
ECL-2.0 EFL-2.0 EPL-1.0 EPL-2.0 EUPL-1.1 EUPL-1.2 Elastic-2.0 Entessa
FSFAP FSFUL FSFULLR FTL Fair
GFDL-1.1 GFDL-1.1-only GFDL-1.1-or-later GFDL-1.2 GFDL-1.2-only GFDL-1.2-or-later GFDL-1.3 GFDL-1.3-only GFDL-1.3-or-later
GFDL-1.3-invariants-or-later GFDL-1.3-no-invariants-or-later
GPL-1.0 GPL-1.0+ GPL-1.0-only GPL-1.0-or-later GPL-2.0 GPL-2.0+ GPL-2.0-only GPL-2.0-or-later
GPL-3.0 GPL-3.0+ GPL-3.0-only GPL-3.0-or-later
HPND HPND-sell-variant
ICU IJG IPA IPL-1.0 ISC ImageMagick Info-ZIP Intel JSON
LGPL-2.0 LGPL-2.0+ LGPL-2.0-only LGPL-2.0-or-later LGPL-2.1 LGPL-2.1+ LGPL-2.1-only LGPL-2.1-or-later
LGPL-3.0 LGPL-3.0+ LGPL-3.0-only LGPL-3.0-or-later LGPLLR LPPL-1.3c Latex2e Libpng LiLiQ-P-1.1
MIT MIT-0 MIT-CMU MIT-Modern-Variant MIT-enna MIT-feh MITNFA MPL-1.0 MPL-1.1 MPL-2.0 MPL-2.0-no-copyleft-exception
MS-PL MS-RL MirOS MulanPSL-2.0
NAIST-2003 NCSA NPL-1.1 NTP Naumen Net-SNMP
ODbL-1.0 OFL-1.0 OFL-1.1 OFL-1.1-RFN OLDAP-2.8 OSL-1.0 OSL-2.0 OSL-2.1 OSL-3.0 OpenSSL
PDDL-1.0 PHP-3.0 PHP-3.01 PostgreSQL PSF-2.0 Python-2.0
QPL-1.0 RSA-MD Ruby SGI-B-2.0 SISSL SMLNJ SSH-OpenSSH SSH-short SSPL-1.0 Sendmail Sleepycat Spencer-86 Spencer-94
TCL TCP-wrappers TMate TU-Berlin-2.0 UPL-1.0 Unicode-DFS-2015 Unicode-DFS-2016 Unlicense
Vim W3C W3C-19980720 WTFPL Watcom-1.0
X11 X11-distribute-modifications-variant XFree86-1.1 Xnet YPL-1.1 ZPL-2.0 ZPL-2.1 Zend-2.0 Zlib
blessing bzip2-1.0.6 copyleft-next-0.3.1 curl libpng-2.0 libtiff xinetd zlib-acknowledgement`

	spdxExceptions = `
Autoconf-exception-2.0 Autoconf-exception-3.0
Bison-exception-2.2 Classpath-exception-2.0 Font-exception-2.0 GCC-exception-2.0 GCC-exception-3.1 LLVM-exception
Libtool-exception Linux-syscall-note OCaml-LGPL-linking-exception OpenJDK-assembly-exception-1.0 Qt-GPL-exception-1.0
Qt-LGPL-exception-1.1 Swift-exception Universal-FOSS-exception-1.0 WxWindows-exception-3.1
eCos-exception-2.0 freertos-exception-2.0 i2p-gpl-java-exception openvpn-openssl-exception
u-boot-exception-2.0`
)
