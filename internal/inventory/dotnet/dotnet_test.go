package dotnet_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory/dotnet"
	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
)

const (
	deps    = "\xef\xbb\xbf" + `{"runtimeTarget":{"name":".NETCoreApp,Version=v8.0"},"targets":{},"libraries":{"app/1.0.0":{"type":"project"},"Newtonsoft.Json/12.0.1":{"type":"package","serviceable":true,"sha512":"x"},"runtimepack.Microsoft.NETCore.App.Runtime.linux-x64/8.0.1":{"type":"runtimepack"}}}`
	locked  = `{"version":1,"dependencies":{"net8.0":{"Serilog":{"type":"Direct","requested":"[2.0.0, )","resolved":"2.0.0"},"own":{"type":"Project"}},"net6.0":{"Serilog":{"type":"Direct","resolved":"2.0.0"}}}}`
	config  = `<?xml version="1.0" encoding="utf-8"?><packages><package id="jQuery" version="3.1.1" targetFramework="net45" /></packages>`
	project = `<Project Sdk="Microsoft.NET.Sdk"><ItemGroup><PackageReference Include="A" Version="1.0.0" /><PackageReference Include="B" Version="[2.0]"/><PackageReference Include="C" Version="1.*" /><PackageReference Include="D" Version="$(V)"><PrivateAssets>all</PrivateAssets></PackageReference></ItemGroup></Project>`
)

func TestConformance(t *testing.T) {
	inventorytest.Run(t, dotnet.Driver{}, []inventorytest.Case{
		{Path: "app/app.deps.json", Content: []byte(deps), Want: []string{"Newtonsoft.Json 12.0.1", "Microsoft.NETCore.App.Runtime.linux-x64 8.0.1"}},
	}, []string{"app/deps.json", "app/app.runtimeconfig.json"})
	inventorytest.Run(t, dotnet.Locks{}, []inventorytest.Case{
		{Path: "src/packages.lock.json", Locked: true, Content: []byte(locked), Want: []string{"Serilog 2.0.0"}},
		{Path: "src/packages.config", Locked: true, Content: []byte(config), Want: []string{"jQuery 3.1.1"}},
		{Path: "src/app.csproj", Locked: true, Content: []byte(project), Want: []string{"A 1.0.0", "B 2.0"}},
	}, []string{"root/.nuget/packages/x/packages.config"})
}

func FuzzDeps(f *testing.F)    { inventorytest.Fuzz(f, dotnet.Driver{}, "a.deps.json", deps) }
func FuzzLock(f *testing.F)    { inventorytest.Fuzz(f, dotnet.Locks{}, "packages.lock.json", locked) }
func FuzzProject(f *testing.F) { inventorytest.Fuzz(f, dotnet.Locks{}, "a.csproj", project, config) }
