//go:build tools

// Package tools keeps the module of helm, whose commands cannot be imported, in go.mod.
package tools

import _ "helm.sh/helm/v3/cmd/helm"
