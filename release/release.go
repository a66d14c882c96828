// Package release has the rules of how the program is checked, built and shipped, as tests: over the
// workflows in .github, the Dockerfile, the scripts in tools, and the licences of what the program is
// made of. None of it is in the program. docs/release.md explains the way from a commit to a release.
package release
