import (
