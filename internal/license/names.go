package license

import (
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Normalise turns what a package states into an SPDX expression. What is not
// known becomes a LicenseRef- of its own, so that nothing is lost; "" for
// nothing.
func Normalise(stated string) string {
	stated = strings.TrimSpace(stated)
	if stated == "" || len(stated) > maxExpression {
		return ""
	}
	if id, ok := lookup(stated); ok {
		return id
	}
	if e, err := Parse(stated); err == nil {
		renamed := e.rename(name).String()
		if _, err := Parse(renamed); err == nil { // an id of signs alone has no name
			return renamed
		}
	}
	// Old habits: "MIT/Apache-2.0", "GPL-2+ and LGPL-2.1+", "MIT, BSD".
	for _, form := range oldForms() {
		parts := form.split.Split(stated, 20)
		if len(parts) < 2 {
			continue
		}
		for i, p := range parts {
			parts[i] = wrapped(Normalise(p), form.operator)
			if parts[i] == "" {
				return reference(stated)
			}
		}
		return strings.Join(unique(parts), form.operator)
	}
	return reference(stated)
}

type oldForm struct {
	split    *regexp.Regexp
	operator string
}

var oldForms = sync.OnceValue(func() []oldForm {
	return []oldForm{
		{regexp.MustCompile(`(?i)\s+or\s+|\s*/\s*|\s*\|\|?\s*`), " OR "},
		{regexp.MustCompile(`(?i)\s+and\s+|\s*[,;&]\s*`), " AND "},
	}
})

func wrapped(expression, operator string) string {
	if operator == " AND " && strings.Contains(expression, " OR ") {
		return "(" + expression + ")"
	}
	return expression
}

func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// All is the expression of a package that states several licences: all count,
// since none of them says that one may choose.
func All(stated []string) string {
	var parts []string
	for _, s := range stated {
		if e := Normalise(s); e != "" {
			parts = append(parts, e)
		}
	}
	parts = unique(parts)
	if len(parts) > 1 {
		for i := range parts {
			parts[i] = wrapped(parts[i], " AND ")
		}
	}
	return strings.Join(parts, " AND ")
}

func name(id string) string {
	if known, ok := lookup(id); ok {
		return known
	}
	if strings.HasPrefix(id, "LicenseRef-") || strings.HasPrefix(id, "DocumentRef-") || strings.ContainsAny(id, "-.0123456789") {
		return id
	}
	return reference(id)
}

var notID = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[^A-Za-z0-9.-]+`) })

func reference(s string) string {
	s = strings.Trim(notID().ReplaceAllString(s, "-"), "-.")
	if s == "" {
		return ""
	}
	return "LicenseRef-" + strings.TrimPrefix(s[:min(len(s), 80)], "LicenseRef-")
}

// lookup knows an id in any case, and the common other names.
func lookup(s string) (string, bool) {
	key := fold(s)
	id, ok := spellings()[key]
	return id, ok
}

var notName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[\s_,"'()-]+`) })

// fold makes spellings of one name alike.
func fold(s string) string {
	s = strings.ToLower(s)
	s = strings.TrimPrefix(s, "license :: osi approved :: ")
	s = strings.TrimPrefix(s, "license :: ")
	s = strings.TrimPrefix(s, "osi approved :: ")
	s = strings.TrimPrefix(s, "the ")
	s = strings.ReplaceAll(s, "licence", "license")
	return strings.Trim(notName().ReplaceAllString(s, " "), " ")
}

var spellings = sync.OnceValue(func() map[string]string {
	all := map[string]string{}
	for id := range strings.FieldsSeq(ids) {
		all[fold(id)] = id
	}
	for line := range strings.SplitSeq(strings.TrimSpace(aliases), "\n") {
		id, names, _ := strings.Cut(line, "=")
		for n := range strings.SplitSeq(names, "|") {
			all[fold(n)] = strings.TrimSpace(id)
		}
	}
	return all
})

// ids are those of SPDX's list that packages state most.
const ids = `0BSD AFL-2.1 AFL-3.0 AGPL-1.0-only AGPL-3.0-only AGPL-3.0-or-later Apache-1.0 Apache-1.1 Apache-2.0 APSL-2.0 Artistic-1.0 Artistic-1.0-Perl Artistic-2.0
Beerware BlueOak-1.0.0 BSD-1-Clause BSD-2-Clause BSD-2-Clause-Patent BSD-3-Clause BSD-3-Clause-Clear BSD-4-Clause BSD-4-Clause-UC BSL-1.0 BUSL-1.1 bzip2-1.0.6
CC-BY-3.0 CC-BY-4.0 CC-BY-NC-4.0 CC-BY-NC-SA-4.0 CC-BY-ND-4.0 CC-BY-SA-3.0 CC-BY-SA-4.0 CC0-1.0 CDDL-1.0 CDDL-1.1 CECILL-2.1 CPAL-1.0 CPL-1.0 curl
ECL-2.0 EFL-2.0 Elastic-2.0 EPL-1.0 EPL-2.0 EUPL-1.1 EUPL-1.2 FSFAP FSFUL FSFULLR FTL GFDL-1.1-only GFDL-1.2-only GFDL-1.2-or-later GFDL-1.3-only GFDL-1.3-or-later
GPL-1.0-only GPL-1.0-or-later GPL-2.0-only GPL-2.0-or-later GPL-3.0-only GPL-3.0-or-later HPND ICU IJG ImageMagick Intel IPL-1.0 ISC JSON
LGPL-2.0-only LGPL-2.0-or-later LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0-only LGPL-3.0-or-later Libpng libtiff LPL-1.02 LPPL-1.3c
MIT MIT-0 MIT-CMU MIT-Modern-Variant MPL-1.0 MPL-1.1 MPL-2.0 MS-PL MS-RL MulanPSL-2.0 NCSA Net-SNMP NPL-1.1 ODbL-1.0 OFL-1.0 OFL-1.1 OLDAP-2.8 OpenSSL OSL-3.0
PHP-3.0 PHP-3.01 PostgreSQL PSF-2.0 Python-2.0 QPL-1.0 Ruby RPL-1.5 SISSL Sleepycat SMLNJ SSPL-1.0 TCL UPL-1.0 Unicode-3.0 Unicode-DFS-2015 Unicode-DFS-2016 Unlicense Vim
W3C WTFPL X11 Xnet zlib Zlib ZPL-2.1 blessing HPND-sell-variant Info-ZIP TMate`

// aliases are other names, by id. Versions that a name leaves out are those
// that its publishers mean.
const aliases = `
MIT=MIT License|Expat|Expat License|MIT/X11|X11 MIT|MIT/Expat|MIT License Expat|MITL|mit-license
Apache-2.0=Apache|Apache 2|Apache 2.0|Apache2|Apache2.0|Apache-2|Apache License|Apache License 2.0|Apache License Version 2.0|Apache License, Version 2.0|Apache Software License|Apache Software License 2.0|Apache Software License - Version 2.0|Apache License v2.0|Apache License v2|ASL 2.0|ASL-2.0|Apache v2|Apache v2.0|Apache Public License 2.0|http://www.apache.org/licenses/LICENSE-2.0|https://www.apache.org/licenses/LICENSE-2.0|http://www.apache.org/licenses/LICENSE-2.0.txt|https://www.apache.org/licenses/LICENSE-2.0.txt
BSD-3-Clause=BSD 3-Clause License|BSD 3 Clause|3-Clause BSD License|3-Clause BSD|New BSD|New BSD License|BSD (3-clause)|BSD 3-Clause "New" or "Revised" License|Revised BSD License|Modified BSD License|BSD-3|BSD-3-clause-Google|BSD3
BSD-2-Clause=BSD 2-Clause License|BSD 2 Clause|2-Clause BSD License|2-Clause BSD|Simplified BSD|Simplified BSD License|FreeBSD License|BSD (2-clause)|BSD-2|FreeBSD|BSD 2-Clause "Simplified" License|BSD2
BSD-4-Clause=BSD-4|BSD 4 Clause|Original BSD License
LicenseRef-BSD=BSD|BSD License|BSD style|BSD-like|Berkeley
ISC=ISC License|ISC License (ISCL)|ISCL
0BSD=BSD Zero Clause License|Zero-Clause BSD
MPL-2.0=MPL 2.0|MPL2|MPLv2|MPLv2.0|Mozilla Public License 2.0|Mozilla Public License Version 2.0|Mozilla Public License 2.0 (MPL 2.0)|MPL 2
MPL-1.1=MPL 1.1|Mozilla Public License 1.1|Mozilla Public License 1.1 (MPL 1.1)|MPLv1.1
GPL-1.0-only=GPL-1|GPL-1.0|GPLv1
GPL-1.0-or-later=GPL|GPL-1+|GPL-1.0+|GNU General Public License|GNU General Public License (GPL)|GNU GPL|GPL+
GPL-2.0-only=GPL-2|GPL-2.0|GPLv2|GPL 2|GPL v2|GPL2|GNU General Public License v2|GNU General Public License v2 (GPLv2)|GNU General Public License v2.0|GNU GPL v2|GPL-2.0-only
GPL-2.0-or-later=GPL-2+|GPL-2.0+|GPLv2+|GPL2+|GPL 2+|GNU General Public License v2 or later|GNU General Public License v2 or later (GPLv2+)|GPL (>= 2)|GPL >= 2|GPL-2-or-later
GPL-3.0-only=GPL-3|GPL-3.0|GPLv3|GPL 3|GPL v3|GPL3|GNU General Public License v3|GNU General Public License v3 (GPLv3)|GNU General Public License v3.0|GNU GPL v3
GPL-3.0-or-later=GPL-3+|GPL-3.0+|GPLv3+|GPL3+|GPL 3+|GNU General Public License v3 or later|GNU General Public License v3 or later (GPLv3+)|GPL (>= 3)|GPL >= 3|GPL-3-or-later
LGPL-2.0-only=LGPL-2|LGPL-2.0|LGPLv2|GNU Lesser General Public License v2 (LGPLv2)|GNU Library General Public License v2
LGPL-2.0-or-later=LGPL|LGPL-2+|LGPL-2.0+|LGPLv2+|GNU Lesser General Public License v2 or later (LGPLv2+)|GNU Library or Lesser General Public License (LGPL)|GNU LGPL|GNU Lesser General Public License|LGPL+
LGPL-2.1-only=LGPL-2.1|LGPLv2.1|LGPL 2.1|GNU Lesser General Public License v2.1
LGPL-2.1-or-later=LGPL-2.1+|LGPLv2.1+|LGPL 2.1+|GNU Lesser General Public License v2.1 or later
LGPL-3.0-only=LGPL-3|LGPL-3.0|LGPLv3|LGPL 3|GNU Lesser General Public License v3|GNU Lesser General Public License v3 (LGPLv3)
LGPL-3.0-or-later=LGPL-3+|LGPL-3.0+|LGPLv3+|GNU Lesser General Public License v3 or later (LGPLv3+)|GNU Lesser General Public License v3 or later
AGPL-3.0-only=AGPL-3|AGPL-3.0|AGPLv3|AGPL 3|GNU Affero General Public License v3
AGPL-3.0-or-later=AGPL|AGPL-3+|AGPL-3.0+|AGPLv3+|GNU Affero General Public License v3 or later (AGPLv3+)|GNU Affero General Public License v3 or later
GFDL-1.2-only=GFDL-1.2|GFDL-NIV-1.2
GFDL-1.2-or-later=GFDL-1.2+|GFDL
GFDL-1.3-only=GFDL-1.3|GFDL-NIV-1.3
GFDL-1.3-or-later=GFDL-1.3+|GFDL-NIV-1.3+
PSF-2.0=PSF|PSFL|PSF License|Python Software Foundation License|Python Software Foundation
Python-2.0=Python License|Python
Artistic-1.0-Perl=Artistic|Artistic License|Artistic-1|Perl Artistic
GPL-1.0-or-later OR Artistic-1.0-Perl=Perl|Perl5|perl_5|same as Perl|GPL+ or Artistic|Artistic or GPL-1+|GPL-1+ or Artistic
Artistic-2.0=Artistic License 2.0|Artistic-2
Unlicense=Unlicense License|The Unlicense (Unlicense)|UNLICENSE
CC0-1.0=CC0|CC0 1.0|CC0 1.0 Universal (CC0 1.0) Public Domain Dedication|CC0-1
LicenseRef-public-domain=Public Domain|public-domain|PD
WTFPL=WTFPL License|Do What The F*ck You Want To Public License
Zlib=zlib License|zlib/libpng|zlib/libpng License
BSL-1.0=Boost|Boost Software License 1.0|Boost Software License 1.0 (BSL-1.0)|Boost Software License
EPL-1.0=Eclipse Public License 1.0|Eclipse Public License - v 1.0|EPL 1.0|Eclipse Public License 1.0 (EPL-1.0)
EPL-2.0=Eclipse Public License 2.0|Eclipse Public License - v 2.0|EPL 2.0|EPL v2|Eclipse Public License v2.0|Eclipse Public License 2.0 (EPL-2.0)
CDDL-1.0=CDDL|CDDL 1.0|Common Development and Distribution License 1.0|Common Development and Distribution License (CDDL) v1.0
CDDL-1.1=CDDL 1.1
OFL-1.1=SIL Open Font License 1.1|SIL OFL 1.1|OFL|SIL Open Font License 1.1 (OFL-1.1)
PostgreSQL=PostgreSQL License
OpenSSL=OpenSSL License
X11=X11 License
HPND=Historical Permission Notice and Disclaimer (HPND)
NCSA=University of Illinois/NCSA Open Source License|UIUC
PHP-3.01=PHP|PHP License|PHP License 3.01
Ruby=Ruby License|Ruby's
TCL=Tcl/Tk|Tcl License
Vim=Vim License
ZPL-2.1=ZPL|ZPL 2.1|Zope Public License
LicenseRef-proprietary=Proprietary|UNLICENSED|Other/Proprietary License|Commercial|All rights reserved
LicenseRef-non-free=non-free
`
