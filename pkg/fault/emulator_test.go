//go:build fault

package fault_test

// emulators are Google's, where the Cloud SDK has them.
type emulators struct{ pubsub, bigtable string }
