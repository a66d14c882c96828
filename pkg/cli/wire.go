package cli

import (
	"context"
	"errors"
)

// openDriver opens the driver of an environment's stacks.
func (a *app) openDriver(context.Context, driveOptions) (driver, error) {
	return nil, fail(exitFailed, "", errors.New("this program was built without the driver of stacks"))
}
