package maven_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
	"github.com/breakwater-sec/breakwater/internal/inventory/maven"
)

const (
	sbt = `{"lockVersion":1,"timestamp":"2026-01-01T00:00:00Z","configurations":["compile","runtime","test"],"dependencies":[
{"org":"org.typelevel","name":"cats-core_2.13","version":"2.9.0","artifacts":[{"name":"cats-core_2.13.jar","hash":"sha1:00"}],"configurations":["compile","runtime","test"]},
{"org":"org.scala-lang","name":"scala-library","version":"2.13.8","artifacts":[],"configurations":["compile"]},{"org":"","name":"nobody","version":"1"}]}`
	gradle = "# This is a Gradle generated file for dependency locking.\n# Manual edits can break the build and are not advised.\ncom.google.guava:guava:31.1-jre=compileClasspath,runtimeClasspath\norg.slf4j:slf4j-api:1.7.36=runtimeClasspath\nempty=annotationProcessor\n"
	pom    = `<?xml version="1.0"?><project xmlns="http://maven.apache.org/POM/4.0.0"><parent><groupId>org.p</groupId><artifactId>p</artifactId><version>7</version></parent>
<artifactId>app</artifactId><properties><log.version>2.14.1</log.version></properties>
<dependencyManagement><dependencies><dependency><groupId>a</groupId><artifactId>managed</artifactId><version>1.0</version></dependency></dependencies></dependencyManagement>
<dependencies>
<dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>${log.version}</version><exclusions><exclusion><groupId>x</groupId><artifactId>y</artifactId></exclusion></exclusions></dependency>
<dependency><groupId>a</groupId><artifactId>managed</artifactId></dependency>
<dependency><groupId>${project.groupId}</groupId><artifactId>sibling</artifactId><version>${project.version}</version></dependency>
<dependency><groupId>b</groupId><artifactId>by-parent</artifactId></dependency>
<dependency><groupId>c</groupId><artifactId>range</artifactId><version>[1,2)</version></dependency>
</dependencies><build><plugins><plugin><dependencies><dependency><groupId>no</groupId><artifactId>no</artifactId><version>1</version></dependency></dependencies></plugin></plugins></build></project>`
)

func TestConformance(t *testing.T) {
	inventorytest.Run(t, maven.Locks{}, []inventorytest.Case{
		{Path: "src/gradle.lockfile", Locked: true, Content: []byte(gradle), Want: []string{"com.google.guava:guava 31.1-jre", "org.slf4j:slf4j-api 1.7.36"}},
		{Path: "src/build.sbt.lock", Locked: true, Content: []byte(sbt), Want: []string{"org.typelevel:cats-core_2.13 2.9.0", "org.scala-lang:scala-library 2.13.8"}},
		{Path: "src/pom.xml", Locked: true, Content: []byte(pom), Want: []string{"org.apache.logging.log4j:log4j-core 2.14.1", "a:managed 1.0", "org.p:sibling 7"}},
	}, []string{"root/.m2/repository/a/pom.xml", "app/META-INF/maven/g/a/pom.xml"})
}

func FuzzGradle(f *testing.F) { inventorytest.Fuzz(f, maven.Locks{}, "gradle.lockfile", gradle) }
func FuzzPom(f *testing.F)    { inventorytest.Fuzz(f, maven.Locks{}, "pom.xml", pom) }
func FuzzSBT(f *testing.F)    { inventorytest.Fuzz(f, maven.Locks{}, "build.sbt.lock", sbt) }
