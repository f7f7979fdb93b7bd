// Pins the vendor's releases; vendor/fetch.py checks each against go.sum. No Go code lives here.
module vendored

go 1.27

require go.temporal.io/server v1.32.2
