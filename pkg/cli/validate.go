package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/latamctl/latamctl/pkg/dataset"
)

func validateCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "validate [FILE]", GroupID: groupCheck,
		Short: "Check the declaration and show what it gives",
		Long:  "validate reads the declaration, reports every error with its place, and otherwise lists the\nnames that follow from it. It needs no network. Exit 5 when the declaration is invalid.",
		Example: `  latamctl validate
  latamctl validate examples/flights/latam.yaml -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.run(nothing, func(_ context.Context, args []string) error {
			if len(args) == 1 {
				a.global.config = args[0]
			}
			return a.runValidate()
		}),
	}
}

// validResult is what validate prints with -o json.
type validResult struct {
	Schema   string         `json:"schema"`
	Valid    bool           `json:"valid"`
	File     string         `json:"file"`
	Name     string         `json:"name"`
	Datasets []validDataset `json:"datasets"`
}

type validDataset struct {
	Name         string   `json:"name"`
	Fields       int      `json:"fields"`
	Key          []string `json:"key"`
	Topic        string   `json:"topic"`
	Subscription string   `json:"subscription"`
	DeadLetters  string   `json:"dead_letter_topic"`
	Table        string   `json:"table"`
	Rows         string   `json:"rows"`
}

func (a *app) runValidate() error {
	decl, err := a.readDeclaration()
	if err != nil {
		return err
	}
	a.decl = decl
	if _, err := a.environmentSettings(); err != nil {
		return err
	}
	result := validResult{Schema: "latamctl.validate/v1", Valid: true, File: decl.File, Name: decl.Name}
	for _, ds := range decl.Datasets {
		result.Datasets = append(result.Datasets, describe(ds))
	}
	if a.global.output == outputJSON {
		return json.NewEncoder(a.proc.Out).Encode(result)
	}
	fmt.Fprintf(a.proc.Out, "%s is valid: %d dataset(s).\n\n", a.declarationName(), len(decl.Datasets))
	w := tabwriter.NewWriter(a.proc.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DATASET\tFIELDS\tKEY\tTOPIC\tSUBSCRIPTION\tDEAD LETTERS\tTABLE\tROWS")
	for _, d := range result.Datasets {
		fmt.Fprintf(w, "%s\t%d\t%v\t%s\t%s\t%s\t%s\t%s\n", d.Name, d.Fields, d.Key, d.Topic, d.Subscription, d.DeadLetters, d.Table, d.Rows)
	}
	return w.Flush()
}

func describe(ds *dataset.Dataset) validDataset {
	key := make([]string, len(ds.Key))
	for i, f := range ds.Key {
		key[i] = f.Name
	}
	return validDataset{
		Name: ds.Name, Fields: len(ds.Fields), Key: key, Topic: ds.Topic, Subscription: ds.Subscription(),
		DeadLetters: ds.DeadLetterTopic(), Table: ds.Table(), Rows: "/v1/datasets/" + ds.Name + "/rows",
	}
}
