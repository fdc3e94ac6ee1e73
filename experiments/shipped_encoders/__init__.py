# SPDX-License-Identifier: Apache-2.0
"""What the shipped demo encoders and their data set are made with."""
